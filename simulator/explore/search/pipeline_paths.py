"""Paths through the passes of a pipeline: what a step takes at least, data parallelism left aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.pipelines import bounded_ranks

if TYPE_CHECKING:
    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.pipelines import Family
    from simulator.explore.search.space import Ints


@dataclass(frozen=True, slots=True)
class Passes:
    """Seconds of each stage's passes, by pair and stage.

    Attributes:
        forward: Forward pass.
        backward: Backward pass, or input gradients where it is split.
        weight: Weight gradients, where the backward pass is split.
    """

    forward: Floats
    backward: Floats
    weight: Floats

    @property
    def total(self) -> Floats:
        """All passes of one micro-batch."""
        return self.forward + self.backward + self.weight

    @classmethod
    def of(cls, layouts: Layouts, family: Family, pairs: Ints, *, with_topology: bool) -> Passes:
        """Time the layers of each stage, kernels alone unless ``with_topology``."""
        classes, of = layouts.classes(family, pairs, with_topology=with_topology)
        profile = family.profile
        seconds = np.stack(
            [layouts.times(each, profile.number, with_topology=with_topology) for each in classes]
        )
        return cls(*np.moveaxis(profile.sums(seconds)[of], 1, 0))


@dataclass(frozen=True, slots=True)
class Chains:
    """Paths through every rank's passes, by pair and rank.

    Attributes:
        before: From the first pass of stage 0 to the rank's first one.
        busy: The rank's passes, and messages that block them.
        after: From the rank's last pass to the last one of stage 0; zero where nothing need follow.
        first: From the rank's first pass to where one stage has run all forward and all but one backward
            passes.
    """

    before: Floats
    busy: Floats
    after: Floats
    first: Floats

    @classmethod
    def of(
        cls, family: Family, passes: Passes, microbatches: Floats, message: Floats, *, blocks: bool
    ) -> Chains:
        """Add up passes and messages.

        Args:
            family: Holds which rank runs which stages.
            passes: Seconds of each stage's passes.
            microbatches: Micro-batches of a step, by pair.
            message: Seconds of the fastest message between ranks, by pair.
            blocks: Whether messages run on the compute stream of sender and receiver.
        """
        owner = np.empty(family.pp * family.vpp, dtype=np.int64)
        for rank, stages in enumerate(family.held):
            owner[list(stages)] = rank
        crosses = np.concatenate([[0], owner[1:] != owner[:-1]])
        held = [list(family.held[rank]) for rank in bounded_ranks(family)]
        lowest = [stages[0] for stages in held]
        # A message that blocks its receiver is counted among what keeps that rank busy.
        hops = np.maximum(np.cumsum(crosses)[lowest] - blocks, 0)[None, :] * message[:, None]
        upto = np.zeros((2, len(message), len(owner)))
        np.cumsum(passes.forward[:, :-1], axis=1, out=upto[0, :, 1:])
        np.cumsum(passes.backward[:, :-1], axis=1, out=upto[1, :, 1:])
        many = microbatches[:, None]
        ends = crosses + np.concatenate([crosses[1:], [0]]) if blocks else np.zeros(len(owner))
        work = many * (passes.total + 2 * ends[None, :] * message[:, None])
        back = passes.backward + passes.weight
        first = many * passes.forward + (many - 1) * back
        return cls(
            before=upto[0][:, lowest] + hops,
            busy=np.stack([work[:, mine].sum(axis=1) for mine in held], axis=1),
            after=np.zeros_like(hops) if family.splits else upto[1][:, lowest] + hops,
            first=np.stack([first[:, mine].min(axis=1) for mine in held], axis=1),
        )
