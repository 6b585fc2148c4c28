"""Context parallelism: what stands in for an exchange that cannot be, and settings without effect."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.files.rules import facts_of
from simulator.files.rules.context import FUSED, NO_WINDOWS, RINGS, divides_heads

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.rules.rule import FactTable
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model, Parallelism, Software, Training


def _why_no_ring(facts: FactTable, attention: str | None) -> str | None:
    """Tell why keys and values cannot go round a ring, as Transformer Engine has it; None where they can."""
    if facts["has_spans"]:
        return NO_WINDOWS
    return FUSED if attention == "unfused" else None


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
        why, facts = None, facts_of(file, model)
        if comm in RINGS:
            why = _why_no_ring(facts, training.attention)
        elif comm == "all_to_all" and not divides_heads(facts["local_heads"], parallelism.cp):
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
