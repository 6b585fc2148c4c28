"""The job's GPUs as they are for its whole duration: how fast each computes and how well it is linked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.montecarlo.cells import cell_of, slowest_of_cells

if TYPE_CHECKING:
    from simulator.scenario import Parallelism
    from simulator.scenario.noise import Noise, Straggler
    from simulator.workload.program import Floats

_FLEET, _STEP = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowGpu:
    """One GPU that is slower than the others.

    Attributes:
        gpu: Global rank.
        slowdown: Time of its kernels over the usual one.
        bandwidth: Share of the network bandwidth that its link reaches.
    """

    gpu: int
    slowdown: float
    bandwidth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All GPUs of a job.

    Attributes:
        parallelism: Where they sit.
        spread: Time of each GPU's kernels over the mean one's, by global rank.
        slow: Stragglers, drawn ones included.
    """

    parallelism: Parallelism
    spread: Floats
    slow: tuple[SlowGpu, ...]

    @classmethod
    def draw(cls, parallelism: Parallelism, noise: Noise, usual_spread: float, seed: int) -> Fleet:
        """Draw the job's GPUs.

        Args:
            parallelism: Where they sit, and how many there are.
            noise: What makes them differ.
            usual_spread: Standard deviation of sustained speed among such GPUs, relative; read where
                ``noise`` has none.
            seed: Seed of the random numbers.
        """
        gpus = parallelism.gpus
        generator = np.random.default_rng([seed, _FLEET])
        spread = usual_spread if noise.speed_spread is None else noise.speed_spread
        # A normal value may be negative; a speed may not.
        speeds = np.maximum(0.1, 1.0 + spread * generator.standard_normal(gpus))
        slow = [each for entry in noise.stragglers for each in _slow(entry, gpus, generator)]
        return cls(parallelism=parallelism, spread=1.0 / speeds, slow=tuple(slow))

    def without(self, gpu: int) -> Fleet:
        """Return the job with one GPU as the mean one is."""
        healed = self.spread.copy()
        healed[gpu] = 1.0
        return replace(self, spread=healed, slow=tuple(each for each in self.slow if each.gpu != gpu))

    def slowdowns(self) -> Floats:
        """Return the time of each GPU's kernels over the mean one's, stragglers included, by global rank."""
        factors = self.spread.copy()
        for each in self.slow:
            factors[each.gpu] *= each.slowdown
        return factors

    def compute(self) -> Floats:
        """Return the time of kernels over the usual one, of shape pipeline ranks x replicas."""
        return slowest_of_cells(self.parallelism, self.slowdowns())

    def messages(self) -> Floats:
        """Return the time of network messages over the usual one, of the same shape."""
        found = np.ones((self.parallelism.pp, self.parallelism.dp))
        for each in self.slow:
            pp, dp = (int(part[0]) for part in cell_of(self.parallelism, np.array([each.gpu])))
            found[pp, dp] = max(found[pp, dp], 1.0 / each.bandwidth)
        return found

    def slowest(self, count: int) -> list[int]:
        """Return the GPUs that compute slowest, the slowest first, stragglers included."""
        return [int(gpu) for gpu in np.argsort(-self.slowdowns(), kind="stable")[:count]]

    def stragglers(self) -> list[int]:
        """Return the GPUs that are slow by request, those first whose kernels or messages take longest."""
        slowdowns = self.slowdowns()
        worst: dict[int, float] = {}
        for each in self.slow:
            longest = max(float(slowdowns[each.gpu]), 1.0 / each.bandwidth)
            worst[each.gpu] = max(worst.get(each.gpu, 0.0), longest)
        return sorted(worst, key=lambda gpu: -worst[gpu])


def step_generator(seed: int, step: int) -> np.random.Generator:
    """Return the random numbers of one step, the same whoever simulates it and in which order."""
    return np.random.default_rng([seed, _STEP, step])


def _slow(entry: Straggler, gpus: int, generator: np.random.Generator) -> list[SlowGpu]:
    ranks = entry.gpus or generator.choice(gpus, size=entry.count, replace=False).tolist()
    return [SlowGpu(gpu=gpu, slowdown=entry.slowdown, bandwidth=entry.bandwidth) for gpu in ranks]
