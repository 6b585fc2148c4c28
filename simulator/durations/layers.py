"""How long the layers of a step take: each is a small Program of its own, run once for all that are alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from simulator.durations.contention import is_slowed, slowed
from simulator.durations.power import at_best_s, relieved
from simulator.durations.price import price_layer
from simulator.engines import fastest
from simulator.workload.layers.host import launches
from simulator.workload.program import Block, BlockSequence, Stream

if TYPE_CHECKING:
    from collections.abc import Hashable

    from simulator.costs.system import System
    from simulator.engines.timeline import Timeline
    from simulator.scenario import Software
    from simulator.workload.program import Program
    from simulator.workload.work import Launches

    Answers = dict[Hashable, "LayerRun"]


_CONTENTION_ROUNDS = 3
_SYSTEMS = 32
_LAYERS = 4096

# Sweeps ask for the same layers again and again: answers by system and content, the latest systems last.
_known: list[tuple[System, Answers]] = []


def forget() -> None:
    """Drop what is known of layers."""
    _known.clear()


def sequence_seconds(program: Program, system: System) -> dict[int, float]:
    """Return the seconds of every work of a step that is a sequence of layers, by its index in ``works``.

    A layer's seconds are its own program's makespan. The host launches its kernels meanwhile: where that
    takes longer, it takes as long as the host. A host that waits for every kernel launches none meanwhile.
    """
    kinds, runners = system.kinds(program.num_ranks), runners_of(program)
    return {
        index: math.fsum(
            count * block_seconds(block, system.at(kinds[runners[index]])) * work.share
            for block, count in work.blocks
        )
        for index, work in enumerate(program.works)
        if isinstance(work, BlockSequence)
    }


def block_seconds(block: Block, system: System) -> float:
    """Return how long a layer takes, or the host to launch it."""
    makespan_s = device_s(block.program, system)
    return makespan_s + held_up_s(block, system, makespan_s)


def block_matrix_seconds(block: Block, system: System) -> float:
    """Return the seconds of matrix multiplications and attention in a layer."""
    return run_layer(block.program, system).matrix_s(system)


def kernel_seconds(block: Block, system: System) -> float:
    """Return the seconds that the kernels of one layer's pass take, or the host to launch them if longer.

    The pass takes no less, wherever the ranks lie that it talks to.
    """
    on_device_s = at_best_s(block.program, price_layer(block.program, system), system)
    return max(on_device_s, _launch_s(block, system))


def runners_of(program: Program) -> list[int]:
    """Return for each work a rank that runs it."""
    runners = np.zeros(len(program.works), dtype=np.int64)
    runners[program.work] = program.rank
    found: list[int] = runners.tolist()
    return found


def held_up_s(block: Block, system: System, makespan_s: float) -> float:
    """Return by how much the host's launches take longer than the kernels that hide them."""
    hidden_s = 0.0 if system.software.blocks_launches else makespan_s
    return max(0.0, _launch_s(block, system) - hidden_s)


def _launch_s(block: Block, system: System) -> float:
    """Return the seconds that the host takes to call the modules of a pass and to launch their kernels."""
    launched = launches(block.program) - block.captured
    return launch_s(launched, system.software) + block.calls * system.software.module_call_s


def host_holds_up(program: Program, system: System) -> bool:
    """Tell whether launching the kernels of some layer one by one takes longer than running them."""
    kinds = system.kinds(program.num_ranks)
    runners = runners_of(program)
    pairs = {
        (block, kinds[runners[index]])
        for index, work in enumerate(program.works)
        if isinstance(work, BlockSequence)
        for block, _ in work.blocks
    }
    return any(
        _eager_s(block.program, system.at(kind)) > device_s(block.program, system.at(kind))
        for block, kind in pairs
    )


def _eager_s(program: Program, system: System) -> float:
    """Return the host's time without CUDA graphs, a call for each distinct piece of work."""
    software = system.software
    return launch_s(launches(program), software) + len(program.works) * software.module_call_s


def device_s(program: Program, system: System) -> float:
    """Return how long the kernels and collectives of a layer take, host launches left aside."""
    return run_layer(program, system).makespan_s


class LayerRun:
    """How a layer runs on the device.

    Attributes:
        timeline: Its own timeline.
        makespan_s: Seconds from its first op to its last.
    """

    __slots__ = ("_matrix_s", "makespan_s", "timeline")

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.makespan_s = timeline.makespan_s
        self._matrix_s: float | None = None

    def matrix_s(self, system: System) -> float:
        """Return the seconds of its matrix kernels."""
        if self._matrix_s is None:
            self._matrix_s = _matrix_seconds(self.timeline.program, system)
        return self._matrix_s


def _matrix_seconds(program: Program, system: System) -> float:
    """Return the seconds of matrix multiplications and attention in a layer."""
    suffers = np.asarray([is_slowed(each) for each in program.works], dtype=bool)[program.work]
    fixed_s = price_layer(program, system).fixed_s
    return float(fixed_s[suffers & (program.stream == Stream.COMPUTE)].sum())


def run_layer(program: Program, system: System) -> LayerRun:
    """Run a layer, or look up where the same was asked before."""
    answers = _answers(system)
    content = program.derived.get("content")
    if content is None:
        content = program.derived["content"] = _Content(program.content())
    if content not in answers:
        if len(answers) >= _LAYERS:
            answers.clear()
        answers[content] = LayerRun(_timeline(program, system))
    return answers[content]


class _Content:
    """What equal programs have in common, hashed once."""

    __slots__ = ("_content", "_hash")

    def __init__(self, content: Hashable) -> None:
        self._content = content
        self._hash = hash(content)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self._content == other._content


def _answers(system: System) -> Answers:
    """Return what is known of a system; systems hold mappings, so that they compare but do not hash."""
    for known, answers in reversed(_known):
        if known is system or known == system:
            return answers
    del _known[: 1 - _SYSTEMS]
    _known.append((system, {}))
    return _known[-1][1]


def _timeline(program: Program, system: System) -> Timeline:
    """Run a layer; kernels are slower for as long as collectives beside them hold multiprocessors.

    Where it waits, products have more power and are faster; how long it waits is seen at the sustained clock.
    Slower kernels overlap for longer: each round adds about that share of multiprocessors of the one before.
    """
    sustained = price_layer(program, system)
    run = fastest(program, sustained)
    timeline = run(program, sustained)
    alone = relieved(program, sustained, timeline.makespan_s, system)
    if alone is not sustained:
        timeline = run(program, alone)
    for _ in range(_CONTENTION_ROUNDS):
        durations = slowed(program, alone, timeline.start_s, timeline.end_s, system)
        if durations is alone:
            break
        timeline = run(program, durations)
    return timeline


LOOPED_LAUNCH_S = 5e-6
"""One launch from a loop in compiled code (assumed: a CUDA launch alone takes the host about so long).

Transformer Engine converts the rows of each expert and starts its product so
(github:NVIDIA/TransformerEngine, ``split_quantize`` and ``nvte_multi_tensor_gemm``).
"""


def launch_s(launches: Launches, software: Software) -> float:
    """Return the host's seconds for launches, those of a loop without the framework's share.

    >>> from simulator import catalogue
    >>> from simulator.workload.work import Launches
    >>> software = catalogue.software("megatron-core")
    >>> launch_s(Launches(first=0, further=64), software)
    0.00032
    """
    looped_s = min(LOOPED_LAUNCH_S, software.kernel_launch_s)
    return launches.first * software.kernel_launch_s + launches.further * looped_s
