"""Layers of each pipeline stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.report import Findings, nearest_divisors

if TYPE_CHECKING:
    from simulator.files.sections import ParallelismSection


def stage_layers(degrees: ParallelismSection, layers: int, findings: Findings) -> tuple[int, ...]:
    """Divide the model's layers among ``pp * vpp`` stages, in model order.

    Args:
        degrees: Holds pp, vpp and the way of dividing.
        layers: Layers of the model.
        findings: Where a division that does not work out is noted; the result is then empty.
    """
    stages = degrees.pp * degrees.vpp
    if isinstance(degrees.layers, list):
        return _explicit(tuple(degrees.layers), stages, layers, findings)
    if degrees.layers == "lighter-ends":
        return _lighter_ends(stages, layers, findings)
    if layers % stages == 0:
        return (layers // stages,) * stages
    findings.problem(
        "parallelism.layers",
        f"{layers} layers do not divide evenly among pp x vpp = "
        f"{degrees.pp} x {degrees.vpp} = {stages} stages; {_remedy(stages, layers)}",
    )
    return ()


def _remedy(stages: int, layers: int) -> str:
    if stages > 1 and (layers + 2) % stages == 0:
        each = (layers + 2) // stages
        return f"use 'layers: lighter-ends' ({each - 1}, {each}, ..., {each}, {each - 1}) or list them"
    near = nearest_divisors(layers, stages)
    return f"use {near} stages, or list the layers of each stage: 'layers: [...]'"


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
