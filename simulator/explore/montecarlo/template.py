"""What all steps of a job share: ops, their seconds without noise, and what noise does to each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from simulator import api
from simulator.costs.system import System
from simulator.durations.price import price
from simulator.engines.replicas import Coupling
from simulator.explore.montecarlo.cells import replicas_sharing_experts
from simulator.workload.grid import Mesh
from simulator.workload.program import BlockSequence, Stream
from simulator.workload.work import Collective, Gemm, StepOverhead, Transfer

if TYPE_CHECKING:
    from simulator.scenario import Parallelism, Scenario
    from simulator.workload.program import Bools, Floats, Ints, Program, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One step.

    Attributes:
        program: One replica.
        coupling: Which collectives couple replicas.
        seconds: Seconds of each op without noise.
        computes: Ops that kernels of the GPU run.
        sends: Ops that the network carries.
        layers: Layers of each op; jitter of one averages over them.
        expert_share: Share of each op's seconds that grows with the tokens of the busiest expert rank.
        meeting: GPUs that meet in every layer of an op: its slowest sets the pace.
        run_s: Seconds of a step as ``run`` has it.
        run_alone_s: The same where transfers do not share links, as they do not here.
    """

    program: Program
    coupling: Coupling
    seconds: Floats
    computes: Bools
    sends: Bools
    layers: Floats
    expert_share: Floats
    meeting: int
    run_s: float
    run_alone_s: float

    @property
    def rank(self) -> Ints:
        """Pipeline rank of each op."""
        return self.program.rank


def template_of(scenario: Scenario) -> Template:
    """Lay out and price a step.

    The mean slow-down by the slowest of all GPUs (``costs.slowest``), which ``run`` counts, is left out of
    its seconds: here every GPU has a speed of its own, and what waits for what decides who is the slowest.
    ``run_s`` and ``run_alone_s`` count it.
    """
    step = api.timed_step(scenario)
    alone = replace(scenario, engine="compiled")
    run_s, run_alone_s = api.step_time_s(step, scenario), api.timed(step, alone, quick=True)[0].makespan_s
    mean_gpu = replace(scenario.cluster, gpu=replace(scenario.cluster.gpu, speed_spread=0.0))
    scenario = replace(alone, cluster=mean_gpu)
    system = System.of(scenario)
    program = step.program
    _, durations = api.timed(step, scenario, quick=True)
    works = program.works
    overhead = np.array([isinstance(work, StepOverhead) for work in works])[program.work]
    network = np.array([isinstance(work, Collective | Transfer) for work in works])[program.work]
    experts = replicas_sharing_experts(scenario.parallelism)
    return Template(
        program=program,
        coupling=coupling_of(program, scenario.parallelism),
        seconds=durations.alone_s(),
        computes=(program.stream == Stream.COMPUTE) & ~overhead,
        sends=network,
        layers=np.array([_layers(work) for work in works])[program.work],
        expert_share=np.array([_expert_share(work, system) for work in works])[program.work],
        meeting=scenario.parallelism.tp * scenario.parallelism.cp * experts,
        run_s=run_s,
        run_alone_s=run_alone_s,
    )


def coupling_of(program: Program, parallelism: Parallelism) -> Coupling:
    """Read off a step which of its collectives join which of the ``dp`` replicas."""
    apart = Mesh.of(parallelism).stride("dp")
    pairs = []
    for work in program.works:
        group = work.group if isinstance(work, Collective) else None
        reach = 0 if group is None else group.size * group.stride // apart
        step = 1 if group is None else max(1, group.stride // apart)
        pairs.append((max(1, min(parallelism.dp, reach) // step), step))
    size, step_ = np.array(pairs, dtype=np.int64).reshape(-1, 2)[program.work].T
    couples = np.isin(program.stream, (Stream.DP_GATHER, Stream.DP_REDUCE))
    return Coupling(size=np.where(couples, size, 1), stride=np.where(couples, step_, 1))


def slowest_of(count: int) -> tuple[float, float]:
    """Return mean and standard deviation of the largest of ``count`` standard normal values.

    Blom's approximation of the mean, and half the distance between the values at one standard deviation of
    the largest's own distribution, whose cumulative probability is the normal one to the power ``count``.

    >>> [round(value, 2) for value in slowest_of(1)], [round(value, 2) for value in slowest_of(8)]
    ([0.0, 1.0], [1.43, 0.6])
    """
    normal = NormalDist()
    low, high = (normal.inv_cdf(normal.cdf(side) ** (1.0 / count)) for side in (-1.0, 1.0))
    mean = normal.inv_cdf((count - 0.375) / (count + 0.25))
    return mean, (high - low) / 2.0


def _layers(work: Work) -> float:
    return max(1.0, sum(count for _, count in work.blocks)) if isinstance(work, BlockSequence) else 1.0


def _expert_share(work: Work, system: System) -> float:
    """Return the share of a pass that its grouped matrix products take, run one after the other."""
    if not isinstance(work, BlockSequence):
        return 0.0
    grouped = total = 0.0
    for block, count in work.blocks:
        seconds = price(block.program, system).alone_s()
        is_grouped = np.array([isinstance(leaf, Gemm) and leaf.grouped for leaf in block.program.works])
        grouped += count * float(seconds[is_grouped[block.program.work]].sum())
        total += count * float(seconds.sum())
    return grouped / total if total else 0.0
