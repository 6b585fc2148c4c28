"""What the host does for a layer: modules that it calls, and kernels that CUDA graphs launch for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layers.low_precision import MODULE as QUANTISE
from simulator.workload.layers.lower import backward_program, forward_program
from simulator.workload.layers.operation import Exchange
from simulator.workload.work import NOTHING, Elementwise, Gemm, Launches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.workload.layers.lower import LayerOptions
    from simulator.workload.layers.operation import Step
    from simulator.workload.program import Program, Work

WITH_ROUTER = frozenset({"moe_router", "mlp_norm", "shared_experts"})
"""What Megatron-Core's scope ``moe_router`` captures: norm, router and shared experts (cuda_graph_scope)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWork:
    """What the host does in one pass.

    Attributes:
        captured: Launches that CUDA graphs save it.
        calls: Modules that it calls, and graphs that it starts.
    """

    captured: Launches
    calls: int


def host_work(
    steps: Sequence[Step],
    options: LayerOptions,
    scopes: frozenset[str],
    reruns: Mapping[int, Sequence[Step]] | None = None,
) -> tuple[HostWork, HostWork]:
    """Return the host's work in a layer's forward pass and in its backward pass.

    Graphs save the launches of their kernels, and the calls of their modules, less one for each graph. What a
    backward pass recomputes is called and launched one by one.

    Args:
        steps: The layer.
        options: How it is run.
        scopes: Modules whose kernels CUDA graphs launch; see ``Training.cuda_graphs``.
        reruns: By step, the steps that run forward once more before its backward pass.
    """
    again = sum(map(_calls, (step for run in (reruns or {}).values() for step in run)))
    if not scopes:
        calls = sum(map(_calls, steps))
        return HostWork(captured=NOTHING, calls=calls), HostWork(captured=NOTHING, calls=calls + again)
    wanted = scopes | (WITH_ROUTER if "moe_router" in scopes else frozenset())
    whole = "full_iteration" in scopes
    chosen = [whole or bool(wanted.intersection(step.modules)) for step in steps]
    part = [step for step, is_chosen in zip(steps, chosen, strict=True) if is_chosen]
    starts = sum(now and not before for before, now in zip([False, *chosen], chosen, strict=False))
    graphs = 0 if whole else starts
    starting = Launches(graphs)
    left = sum(_calls(step) for step, is_chosen in zip(steps, chosen, strict=True) if not is_chosen) + graphs
    return (
        HostWork(captured=launches(forward_program(part, options)) - starting, calls=left),
        HostWork(
            captured=launches(backward_program(part, options)) - starting,
            calls=left + (0 if whole else again),
        ),
    )


def _calls(step: Step) -> int:
    """Return one, and one for each step beside an exchange; a matrix's module quantises by itself."""
    if QUANTISE in step.modules:
        return 0
    return 1 + (sum(map(_calls, step.beside)) if isinstance(step, Exchange) else 0)


def launches(program: Program) -> Launches:
    """Count the kernels of a program that are launched, collectives included."""
    counts = [_kernels(work) for work in program.works]
    return sum((counts[index] for index in program.work.tolist()), NOTHING)


def _kernels(work: Work) -> Launches:
    """Count the kernels of one piece of work; a grouped product is one for each group (see ``work.Gemm``).

    A library starts the products of all groups from one call, and so the conversions of their rows.
    """
    if isinstance(work, Elementwise):
        calls = -(-work.kernels // work.loops)
        return Launches(calls, work.kernels - calls)
    return Launches(1, work.batch - 1 if isinstance(work, Gemm) and work.grouped else 0)
