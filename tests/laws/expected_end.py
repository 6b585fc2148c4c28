"""How a step ends, as an oracle of the step expects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.program import OpKind, Stream

from .expected_ops import Law

if TYPE_CHECKING:
    from .expected_ops import Reason
    from .step_oracle import Oracle


def append_end(oracle: Oracle) -> None:
    """Append what follows the gradients of each rank: sums over copies, the gradient norm and the update."""
    scenario = oracle.scenario
    pp, gpus = scenario.parallelism.pp, scenario.parallelism.gpus
    ranks = range(pp)
    before: dict[int, list[Reason]] = {
        rank: [(Law.END, op) for op in [*oracle.reduced[rank], oracle.last_compute[rank]]] for rank in ranks
    }
    if scenario.training.precision == "fp8-delayed" and gpus > pp:
        for rank in ranks:
            for _ in range(2):
                _collective(oracle, rank, ("all_reduce", "amax history", gpus // pp, None), before)
    for join, holders in _copies(oracle):
        name = "stage copies" if join[0] == "copies" else "tied embedding gradients"
        for rank in holders:
            _collective(oracle, rank, ("all_reduce", name, 2, None), before, join)
    if gpus > 1 and not scenario.training.post_validation:
        for rank in ranks:
            _collective(oracle, rank, ("all_reduce", "gradient norm", gpus, 4.0), before, ("norm",))
    for rank in ranks:
        _update(oracle, rank, before[rank])


def _copies(oracle: Oracle) -> list[tuple[tuple[object, ...], list[int]]]:
    """Return which two ranks hold copies of a stage, or of a table that embedding and head share."""
    stages = range(len(oracle.stages))
    holders = [[rank for rank, held in enumerate(oracle.held) if stage in held] for stage in stages]
    copies: list[tuple[tuple[object, ...], list[int]]] = [
        (("copies", stage), ranks) for stage, ranks in enumerate(holders) if len(ranks) == 2
    ]
    ends = [holders[0][0], holders[-1][0]]
    if oracle.scenario.model.tie_word_embeddings and ends[0] != ends[1]:
        copies.append((("tied",), ends))
    return copies


def _collective(
    oracle: Oracle,
    rank: int,
    work: tuple[object, ...],
    before: dict[int, list[Reason]],
    join: tuple[object, ...] = (),
) -> None:
    """Append a collective that follows all before it, and that the rest of the rank's step follows."""
    op = oracle.add(rank, Stream.DP_REDUCE, OpKind.COLLECTIVE, work, join=join)
    oracle.wait(op, before[rank])
    before[rank] = [*before[rank], (Law.END, op)]


def _update(oracle: Oracle, rank: int, before: list[Reason]) -> None:
    training = oracle.scenario.training
    offload = training.offload
    share = 0.0 if offload.optimizer == "none" else offload.optimizer_fraction
    if share < 1:
        op = oracle.add(rank, Stream.COMPUTE, OpKind.OPTIMIZER, ("optimizer",))
        oracle.wait(op, before)
    arrived: list[Reason] = []
    start = before
    copy = OpKind.TRANSFER
    steps = {
        "stream": ((Stream.HOST_IN, copy), (Stream.COMPUTE, OpKind.OPTIMIZER), (Stream.HOST_OUT, copy)),
        "cpu": ((Stream.HOST_OUT, copy), (Stream.HOST, copy), (Stream.HOST_IN, copy)),
    }
    for _ in range(oracle.host_buckets[rank] if share else 0):
        follows = start
        for stream, kind in steps[offload.optimizer]:
            name = {Stream.COMPUTE: "optimizer", Stream.HOST: "host optimizer"}.get(stream, "host copy")
            op = oracle.add(rank, stream, kind, (name,))
            oracle.wait(op, follows)
            follows = [(Law.HOST, op)]
        arrived = follows
        start = start if offload.optimizer_overlap else arrived
    layers = [oracle.stages[stage] for stage in oracle.held[rank]]
    if training.precision == "fp8-delayed" and any(s.layers or s.outline.predictions for s in layers):
        op = oracle.add(rank, Stream.COMPUTE, OpKind.OPTIMIZER, ("weight casts",))
        oracle.wait(op, arrived)
    op = oracle.add(rank, Stream.COMPUTE, OpKind.OVERHEAD, ("step overhead",))
    oracle.wait(op, arrived)
