"""One step's seconds of every op in every replica, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.montecarlo.fleet import step_generator
from simulator.explore.montecarlo.template import slowest_of

if TYPE_CHECKING:
    from simulator.explore.montecarlo.fleet import Fleet
    from simulator.explore.montecarlo.template import Template
    from simulator.scenario.noise import Noise
    from simulator.workload.program import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawer:
    """Draws steps.

    Attributes:
        template: The step without noise.
        steady: Seconds of each op in each replica on the job's GPUs, of shape ops x replicas.
        mean: Of the factor that jitter is for an op of one layer.
        spread: Its standard deviation by op.
        noise: What is drawn.
    """

    template: Template
    steady: Floats
    mean: float
    spread: Floats
    noise: Noise

    @classmethod
    def of(cls, template: Template, fleet: Fleet, noise: Noise) -> Drawer:
        """Prepare to draw steps on a fleet.

        The slowest of ``n`` GPUs that meet in every layer takes ``1 + jitter * mean_n`` times as long; over
        ``L`` layers the rest averages to ``jitter * deviation_n / sqrt(L)``.
        """
        factors = np.ones((len(template.seconds), fleet.parallelism.dp))
        factors[template.computes] = fleet.compute()[template.rank[template.computes]]
        factors[template.sends] = fleet.messages()[template.rank[template.sends]]
        mean, deviation = slowest_of(template.meeting)
        spread = noise.kernel_jitter * deviation / np.sqrt(template.layers)
        return cls(
            template=template,
            steady=template.seconds[:, None] * factors,
            mean=1.0 + noise.kernel_jitter * mean,
            spread=np.where(template.computes, spread, 0.0),
            noise=noise,
        )

    def step(self, seed: int, number: int) -> Floats:
        """Return the seconds of every op in every replica in one step."""
        generator = step_generator(seed, number)
        seconds = self.steady.copy()
        if self.noise.kernel_jitter:
            rows = np.flatnonzero(self.spread)
            drawn = generator.standard_normal((len(rows), seconds.shape[1]))
            drawn *= self.spread[rows, None]
            drawn += self.mean
            seconds[rows] *= np.maximum(drawn, 0.0, out=drawn)
        if self.noise.expert_imbalance:
            self._let_experts_wait(generator, seconds)
        return seconds

    def _let_experts_wait(self, generator: np.random.Generator, seconds: Floats) -> None:
        """Lengthen passes by the excess of the busiest expert rank, exponential in each of their layers."""
        rows = np.flatnonzero(self.template.expert_share)
        layers = self.template.layers[rows, None]
        excess = generator.gamma(np.broadcast_to(layers, (len(rows), seconds.shape[1]))) / layers
        share = self.template.expert_share[rows, None]
        seconds[rows] *= 1.0 + share * self.noise.expert_imbalance * excess
