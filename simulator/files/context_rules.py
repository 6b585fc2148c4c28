"""Rules of context parallelism: what each exchange of keys and values needs, and what stands in for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.files.report import Findings, nearest_divisors

if TYPE_CHECKING:
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model, Parallelism, Software, Training


def check_context(file: ScenarioFile, model: Model, findings: Findings) -> None:
    """Check that heads can be divided among the ranks that exchange them, and that a ring can merge."""
    section, cp = file.parallelism, file.parallelism.cp
    if cp == 1 or section.cp_comm is None:
        return
    if section.cp_comm == "all_to_all":
        _heads(model, section.tp, cp, "parallelism.cp", findings)
    elif section.cp_comm == "hierarchical":
        if section.cp_heads is None or cp % section.cp_heads:
            findings.problem(
                "parallelism.cp_comm",
                f"the hierarchical exchange needs cp_heads, a divisor of cp = {cp}: the neighbouring ranks "
                f"that exchange heads; nearest: {nearest_divisors(cp, section.cp_heads or 2)}",
            )
        else:
            _heads(model, section.tp, section.cp_heads, "parallelism.cp_heads", findings)
    if section.cp_comm in {"ring", "hierarchical"}:
        why = _why_no_ring(model, file.training.seq_length, file.training.attention)
        if why:
            findings.problem("parallelism.cp_comm", f"a ring {why}; use cp_comm: all_gather or all_to_all")


def check_loss_chunks(file: ScenarioFile, findings: Findings) -> None:
    """Check that the tokens of a rank divide into chunks of the loss."""
    section, chunks = file.training, file.training.loss_chunks
    shares = file.parallelism.tp if file.parallelism.sequence_parallel is not False else 1
    tokens = section.micro_batch_size * section.seq_length // (file.parallelism.cp * shares)
    if tokens % chunks:
        findings.problem(
            "training.loss_chunks",
            f"{chunks} chunks do not divide the {tokens} tokens of a rank; "
            f"nearest: {nearest_divisors(tokens, chunks)}",
        )


def _heads(model: Model, tp: int, ranks: int, path: str, findings: Findings) -> None:
    """Check that query and key-value heads of a tensor-parallel rank divide evenly (Transformer Engine)."""
    local = _local_heads(model, tp)
    if not _divides(local, ranks):
        near = nearest_divisors(local, ranks) if local else "none with this tp"
        findings.problem(
            path,
            f"an all-to-all exchanges heads: {ranks} ranks must divide the {local} key-value heads that "
            f"tp = {tp} leaves each rank; nearest: {near}",
        )


def _local_heads(model: Model, tp: int) -> int:
    """Return the key-value heads of a tensor-parallel rank that are not copies of another's."""
    return (model.num_attention_heads if model.latent_attention else model.num_key_value_heads) // tp


def _divides(heads: int, ranks: int) -> bool:
    return heads > 0 and heads % ranks == 0


def _why_no_ring(model: Model, seq_length: int, attention: str | None) -> str | None:
    """Tell why keys and values cannot go round a ring, as Transformer Engine has it; None where they can."""
    spans = (model.sliding_window, model.attention_chunk_size)
    if any(span is not None and span < seq_length for span in spans):
        return "does not support sliding windows and chunks (Transformer Engine)"
    return (
        "needs a fused attention kernel, which can merge partial results" if attention == "unfused" else None
    )


def with_context(
    parallelism: Parallelism,
    file: ScenarioFile,
    model: Model,
    training: Training,
    software: Software,
    findings: Findings,
) -> Parallelism:
    """Fill in how keys and values are exchanged: as the file says, else as the software does where it can."""
    section = file.parallelism
    comm = section.cp_comm or software.cp_comm
    if section.cp_comm is None and parallelism.cp > 1:
        why = None
        if comm in {"ring", "hierarchical"}:
            why = _why_no_ring(model, training.seq_length, training.attention)
        elif comm == "all_to_all" and not _divides(_local_heads(model, parallelism.tp), parallelism.cp):
            why = "cannot divide the key-value heads"
        if why:
            findings.warn(f"parallelism.cp_comm: all_gather, as {software.name}'s {comm} {why}")
            comm = "all_gather"
    heads = section.cp_heads or 1
    return replace(parallelism, cp_comm=comm, cp_heads=heads, cp_balance=section.cp_balance)


def idle_context_settings(
    file: ScenarioFile, degrees: Parallelism, model: Model
) -> tuple[tuple[bool, str, str], ...]:
    """Return the settings of tensor and context parallelism that may change nothing, and why."""
    section, overlap, length = file.parallelism, file.training.overlap, file.training.seq_length
    given = section.model_fields_set
    whole_heads = degrees.cp_comm == "all_to_all"
    document = file.training.mean_document_length
    return (
        (section.cp_comm is not None and degrees.cp == 1, "parallelism.cp_comm", "cp is 1"),
        ("cp_balance" in given and degrees.cp == 1, "parallelism.cp_balance", "cp is 1"),
        (
            "cp_balance" in given and degrees.cp > 1 and whole_heads,
            "parallelism.cp_balance",
            "every rank sees all positions of its heads",
        ),
        (
            section.cp_heads is not None and degrees.cp_comm != "hierarchical",
            "parallelism.cp_heads",
            "cp_comm is not hierarchical",
        ),
        (
            bool(overlap.tp) and degrees.tp > 1 and not degrees.sequence_parallel,
            "training.overlap.tp",
            "only gathers and reduce-scatters run in pieces, which sequence_parallel makes",
        ),
        (
            document is not None and file.training.attention == "unfused",
            "training.mean_document_length",
            "an unfused attention computes all pairs",
        ),
        (
            model.sliding_window is not None and model.sliding_window >= length,
            "model.sliding_window",
            f"sequences of {length} tokens fit into it",
        ),
        (
            model.attention_chunk_size is not None and model.attention_chunk_size >= length,
            "model.attention_chunk_size",
            f"sequences of {length} tokens fit into it",
        ),
    )
