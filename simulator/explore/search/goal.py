"""What makes one layout better than another: a score, less is better, that grows with the step's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.explore.search.classes import Floats
    from simulator.scenario import Cluster, Search

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """How the layouts of one scenario score, by the seconds of a step.

    Attributes:
        rank_by: See ``scenario.Search``.
        gpus: GPUs of the job.
        tokens: Tokens of a step.
        price: Price of a GPU for one hour; 1 where GPU hours are counted.
        slowest_s: Seconds of a step beyond which the target is missed.
    """

    rank_by: str
    gpus: int
    tokens: int
    price: float
    slowest_s: float

    @classmethod
    def of(cls, search: Search, cluster: Cluster, tokens: int) -> Goal:
        """Return the goal of a search on a cluster, with so many tokens per step."""
        price = cluster.price_per_gpu_hour
        return cls(
            rank_by=search.rank_by,
            gpus=cluster.gpus,
            tokens=tokens,
            price=1.0 if price is None else price,
            slowest_s=np.inf if search.tokens_per_s is None else tokens / search.tokens_per_s,
        )

    def pace(self, step_s: Floats) -> Floats:
        """Return seconds per token of the whole job, or infinity where that misses the target."""
        return np.where(step_s <= self.slowest_s, step_s / self.tokens, np.inf)

    def cost_per_token(self, step_s: float) -> float:
        """Return GPU hours per token, times the price."""
        return step_s / self.tokens * self.gpus / _SECONDS_PER_HOUR * self.price

    def score(self, step_s: Floats) -> Floats:
        """Return the score of steps of so many seconds: infinite where they miss the target.

        Seconds per token, GPU hours or dollars per token, or the number of GPUs and, among equals, a fraction
        of one that grows with the time. None of them falls as the time grows: a bound on the time bounds the
        score.
        """
        if self.rank_by == "cost":
            score = step_s / self.tokens * self.gpus / _SECONDS_PER_HOUR * self.price
        elif self.rank_by == "gpus":
            score = self.gpus + 0.5 * step_s / self.slowest_s
        else:
            score = step_s / self.tokens
        return np.where(step_s <= self.slowest_s, score, np.inf)
