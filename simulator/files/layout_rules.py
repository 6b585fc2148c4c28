"""Rules of the layout: ranks against GPUs, the batch, and the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.expert_rules import check_expert_mesh
from simulator.files.report import Findings, nearest_multiples
from simulator.files.schedule_rules import check_microbatches

if TYPE_CHECKING:
    from simulator.files.scenario_file import ScenarioFile

MAX_PIPELINE_OPS = 4_000_000
"""Forward (or backward) passes of one step over all pipeline ranks; beyond it a simulation takes hours."""


def data_parallel(file: ScenarioFile, findings: Findings) -> int | None:
    """Return the data-parallel replicas, given or derived; None where the GPUs do not divide."""
    degrees, gpus = file.parallelism, file.cluster.gpus
    replica = degrees.tp * degrees.pp * degrees.cp
    product = f"tp x pp x cp = {degrees.tp} x {degrees.pp} x {degrees.cp} = {replica}"
    if degrees.dp == "auto" or gpus % replica:
        if replica > gpus:
            findings.problem(
                "cluster.gpus", f"{product} GPUs for one replica of the model, but there are {gpus} GPUs"
            )
            return None
        if gpus % replica:
            near = nearest_multiples(gpus, replica)
            findings.problem("cluster.gpus", f"{gpus} GPUs are no multiple of {product}; nearest: {near}")
            return None
    if degrees.dp == "auto":
        return gpus // replica
    if degrees.dp * replica != gpus:
        findings.problem(
            "parallelism.dp",
            f"{product} times dp = {degrees.dp} is {replica * degrees.dp} GPUs, but there are {gpus}; "
            f"use dp: {gpus // replica} or dp: auto",
        )
        return None
    return degrees.dp


def check_layout(file: ScenarioFile, dp: int, findings: Findings) -> None:
    """Check everything that needs no model: batch, schedule, experts' ranks, sequence, placement."""
    _batch(file, dp, findings)
    check_expert_mesh(file, dp, findings)
    _sequence(file, findings)
    placement = file.parallelism.placement
    if sorted(placement) != ["cp", "dp", "pp", "tp"]:
        findings.problem(
            "parallelism.placement",
            f"must hold tp, cp, dp and pp once each, got {', '.join(placement) or 'nothing'}",
        )


def _batch(file: ScenarioFile, dp: int, findings: Findings) -> None:
    degrees, training = file.parallelism, file.training
    per_step = training.micro_batch_size * dp
    batch = training.global_batch_size
    if batch % per_step:
        findings.problem(
            "training.global_batch_size",
            f"{batch} is no multiple of micro_batch_size x dp = "
            f"{training.micro_batch_size} x {dp} = {per_step}; nearest: {nearest_multiples(batch, per_step)}",
        )
        return
    microbatches = batch // per_step
    check_microbatches(file, dp, microbatches, findings)
    ops = degrees.pp * degrees.vpp * microbatches
    if ops > MAX_PIPELINE_OPS:
        findings.problem(
            "training.global_batch_size",
            f"pp x vpp x micro-batches = {degrees.pp} x {degrees.vpp} x {microbatches} = {ops} passes per "
            f"step, more than the {MAX_PIPELINE_OPS} that are simulated; use larger micro-batches",
        )


def _sequence(file: ScenarioFile, findings: Findings) -> None:
    degrees, length = file.parallelism, file.training.seq_length
    balanced = degrees.cp_balance and degrees.cp > 1
    parts = 2 * degrees.cp if balanced else degrees.cp
    if length % parts:
        findings.problem(
            "training.seq_length",
            f"{length} is no multiple of {'2 x ' if balanced else ''}cp = {parts}"
            f"{' (two pieces per rank balance causal attention)' if balanced else ''}; "
            f"nearest: {nearest_multiples(length, parts)}",
        )
        return
    uses_sp = degrees.tp > 1 and degrees.sequence_parallel is not False
    if uses_sp and length // degrees.cp % degrees.tp:
        near = nearest_multiples(length, parts * degrees.tp)
        findings.problem(
            "training.seq_length",
            f"{length} / cp = {length // degrees.cp} is no multiple of tp = {degrees.tp}, which "
            f"sequence_parallel needs; nearest: {near}",
        )
