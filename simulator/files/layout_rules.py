"""Rules of the layout: ranks against GPUs, the batch, and the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.report import Findings, nearest_multiples

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
    _experts(file, dp, findings)
    _sequence(file, findings)
    placement = file.parallelism.placement
    if sorted(placement) != ["cp", "dp", "pp", "tp"]:
        findings.problem(
            "parallelism.placement",
            f"must hold tp, cp, dp and pp once each, got {', '.join(placement) or 'nothing'}",
        )
    if file.parallelism.sharding == "zero3":
        findings.problem(
            "parallelism.sharding",
            "zero3 (sharded parameters) is not simulated yet; use none, zero1 or zero2",
        )


def check_pipeline(file: ScenarioFile, findings: Findings) -> None:
    """Check the schedule against the pipeline's ranks and chunks."""
    degrees = file.parallelism
    if degrees.vpp > 1 and degrees.pp == 1:
        findings.problem("parallelism.vpp", f"vpp = {degrees.vpp} needs a pipeline: pp is 1")
    if degrees.vpp > 1 and degrees.schedule == "1f1b":
        findings.problem(
            "parallelism.schedule",
            f"1f1b runs one chunk per rank, but vpp is {degrees.vpp}; use interleaved",
        )
    if degrees.vpp == 1 and degrees.schedule == "interleaved":
        findings.problem(
            "parallelism.schedule", "interleaved needs vpp of 2 or more; vpp is 1: use 1f1b or set vpp"
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
    if degrees.vpp > 1 and degrees.pp > 1 and microbatches % degrees.pp:
        near = [int(text) * per_step for text in nearest_multiples(microbatches, degrees.pp).split(" or ")]
        findings.problem(
            "training.global_batch_size",
            f"the interleaved schedule needs a number of micro-batches that pp = {degrees.pp} divides, but "
            f"{batch} / ({training.micro_batch_size} x {dp}) = {microbatches}; "
            f"nearest global_batch_size: {' or '.join(map(str, near))}",
        )
    ops = degrees.pp * degrees.vpp * microbatches
    if ops > MAX_PIPELINE_OPS:
        findings.problem(
            "training.global_batch_size",
            f"pp x vpp x micro-batches = {degrees.pp} x {degrees.vpp} x {microbatches} = {ops} passes per "
            f"step, more than the {MAX_PIPELINE_OPS} that are simulated; use larger micro-batches",
        )


def _experts(file: ScenarioFile, dp: int, findings: Findings) -> None:
    degrees = file.parallelism
    if dp * degrees.cp % degrees.ep:
        findings.problem(
            "parallelism.ep",
            f"ep = {degrees.ep} must divide dp x cp = {dp} x {degrees.cp} = {dp * degrees.cp}",
        )


def _sequence(file: ScenarioFile, findings: Findings) -> None:
    degrees, length = file.parallelism, file.training.seq_length
    parts = 2 * degrees.cp if degrees.cp > 1 else 1
    if length % parts:
        findings.problem(
            "training.seq_length",
            f"{length} is no multiple of 2 x cp = {parts} (two pieces per rank balance causal attention); "
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
