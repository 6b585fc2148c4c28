"""Layers of each pipeline stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.clusters import cluster_of
from simulator.files.findings import Findings, nearest_divisors
from simulator.files.schedule_rules import schedule_name
from simulator.scenario.training import number_format
from simulator.schedules import SCHEDULES, Request, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.files.scenario_file import ScenarioFile


def stage_layers(file: ScenarioFile, layers: int, findings: Findings) -> tuple[int, ...]:
    """Divide the model's layers among ``pp * vpp`` stages, in model order.

    Args:
        file: Holds pp, vpp, the way of dividing and the hardware.
        layers: Layers of the model.
        findings: Where a division that does not work out is noted; the result is then empty.
    """
    degrees = file.parallelism
    stages = degrees.pp * degrees.vpp
    if isinstance(degrees.layers, list):
        return _explicit(tuple(degrees.layers), stages, layers, findings)
    if degrees.layers == "lighter-ends":
        return _lighter_ends(stages, layers, findings)
    if degrees.layers == "balanced":
        return _balanced(file, stages, layers, findings)
    if layers % stages == 0:
        return (layers // stages,) * stages
    findings.problem(
        "parallelism.layers",
        f"{layers} layers do not divide evenly among pp x vpp = "
        f"{degrees.pp} x {degrees.vpp} = {stages} stages; {_remedy(stages, layers)}",
    )
    return ()


def _balanced(file: ScenarioFile, stages: int, layers: int, findings: Findings) -> tuple[int, ...]:
    if findings.problems:
        return ()
    counts = balanced(layers, _speeds(file))
    if 0 in counts[1:-1]:
        findings.problem(
            "parallelism.layers",
            f"{layers} layers do not reach all {stages} stages: only the first and the last may hold none",
        )
    return counts


def balanced(layers: int, speeds: Sequence[float]) -> tuple[int, ...]:
    """Divide layers so that the slowest stage is as fast as can be: each goes where it ends soonest.

    Args:
        layers: Layers of the model.
        speeds: Relative speed of each stage's accelerators.

    >>> balanced(32, [2.0, 2.0, 1.0, 1.0]), balanced(9, [1.0, 1.0, 1.0, 1.0])
    ((11, 11, 5, 5), (2, 3, 2, 2))
    """
    held = [0] * len(speeds)
    middle = (len(speeds) - 1) / 2

    def ends(stage: int) -> tuple[float, float]:
        # The embedding and the head come on top at the ends: of equal stages, an inner one takes the layer.
        return (held[stage] + 1) / speeds[stage], abs(stage - middle)

    for _ in range(layers):
        held[min(range(len(speeds)), key=ends)] += 1
    return tuple(held)


def _speeds(file: ScenarioFile) -> list[float]:
    """Return the matrix-product rate that the accelerators of each stage sustain."""
    degrees, precision = file.parallelism, number_format(file.training.precision)
    ranks = cluster_of(file.cluster).of_pipeline_ranks(degrees.pp)
    speed = {id(part): part.gpu.sustained_flop_per_s(precision) for part in ranks}
    return [
        min(speed[id(ranks[holder])] for holder in holders)
        for holders in holders(schedule_name(degrees), degrees.pp, degrees.vpp)
    ]


def holders(schedule: str, pp: int, vpp: int) -> list[set[int]]:
    """Return the ranks that hold each stage: one, or two where a schedule runs in both directions.

    >>> holders("interleaved", 2, 2), holders("zb-v", 2, 2)
    ([{0}, {1}, {0}, {1}], [{0}, {1}, {1}, {0}])
    """
    holders: list[set[int]] = [set() for _ in range(pp * vpp)]
    if schedule not in SCHEDULES:
        return [{stage % pp} for stage in range(pp * vpp)]
    order = SCHEDULES[schedule].order(Request(pp=pp, vpp=vpp, num_microbatches=2 * pp))
    for rank, entries in enumerate(order):
        for action in passes(entries):
            holders[action.stage].add(rank)
    return holders


def _remedy(stages: int, layers: int) -> str:
    if stages > 1 and (layers + 2) % stages == 0:
        each = (layers + 2) // stages
        return f"use 'layers: lighter-ends' ({each - 1}, {each}, ..., {each}, {each - 1}) or list them"
    near = nearest_divisors(layers, stages)
    return f"use {near} stages, 'layers: balanced', or list the layers of each stage: 'layers: [...]'"


def _lighter_ends(stages: int, layers: int, findings: Findings) -> tuple[int, ...]:
    if stages > 1 and (layers + 2) % stages == 0:
        each = (layers + 2) // stages
        return (each - 1, *(each,) * (stages - 2), each - 1)
    message = f"lighter-ends needs {layers} + 2 layers to divide among {stages} stages"
    if stages == 1:
        message = "lighter-ends needs at least two pipeline stages"
    findings.problem("parallelism.layers", f"{message}; list the layers of each stage: 'layers: [...]'")
    return ()


def _explicit(given: tuple[int, ...], stages: int, layers: int, findings: Findings) -> tuple[int, ...]:
    found = len(findings.problems)
    if len(given) != stages:
        findings.problem(
            "parallelism.layers",
            f"{len(given)} numbers of layers, but pp x vpp makes {stages} stages in model order",
        )
    elif sum(given) != layers:
        findings.problem(
            "parallelism.layers", f"the stages hold {sum(given)} layers, but the model has {layers}"
        )
    if 0 in given[1:-1]:
        findings.problem("parallelism.layers", "only the first and the last stage may hold no layer")
    return given if len(findings.problems) == found else ()
