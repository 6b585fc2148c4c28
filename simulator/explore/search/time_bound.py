"""How long a step takes at least. What follows holds for any layout, so that pruning by it loses nothing.

A step is the longest path through its ops (``engines.compiled``), so every path is a bound, and so is every
chain of ops of one stream, of which only one runs at a time. For a pipeline rank ``r`` that holds stages from
``s`` on, with ``m`` micro-batches, the path

    weights of stage 0 gathered; forward passes of one micro-batch through stages 0 .. s-1 and the messages
    between them; all passes of rank r, one after the other on its compute stream; backward passes of one
    micro-batch through stages s-1 .. 0 and their messages; gradients of stage 0 reduced; gradient norm of all
    ranks; optimizer of the slowest rank; overhead of a step

exists in every schedule whose ranks hold stages of their own: a rank's first pass is a forward pass of its
lowest stage or of a later one, so the passes before it have ended; where backward passes are whole, its last
pass is a backward pass, after which those of the stages before its own must follow. (Where they are split,
the last may be a weight gradient that nothing waits for, and the path ends there.) A second path follows the
reductions of rank r, which begin when a stage has run all its forward and all but one of its backward
passes. Where ranks share stages, the mean of their work is the bound.

What is left out can only add: sharing of links, kernels slowed by collectives beside them, tied embeddings,
messages that hold up the steady phase. The seconds of layers are those of their kernels, or of the whole
layer as the simulation runs it; see ``classes.LayerClass.times``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.families import looked_at
from simulator.explore.search.memory_bound import ROUNDING
from simulator.explore.search.traffic import Traffic, ways_of
from simulator.workload.shapes import shapes_of

if TYPE_CHECKING:
    from simulator.explore.search.classes import Floats
    from simulator.explore.search.families import Family
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.prices import Prices
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
    def of(cls, layouts: Layouts, family: Family, pairs: Ints, *, placed: bool) -> Passes:
        """Time the layers of each stage, kernels alone unless ``placed``."""
        classes, of = layouts.classes(family, pairs, placed=placed)
        profile = family.profile
        seconds = np.stack([layouts.times(each, profile.number, placed=placed) for each in classes])
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
        held = [list(family.held[rank]) for rank in looked_at(family)]
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


def time_bound(layouts: Layouts, prices: Prices, family: Family, pairs: Ints, *, placed: bool) -> Floats:
    """Return seconds that a step takes at least, by pair and way of running steps.

    Args:
        layouts: The layouts.
        prices: Prices on their hardware.
        family: Some layouts with one pipeline.
        pairs: Which of its pairs.
        placed: Whether to run their layers, or to count kernels only.
    """
    passes = Passes.of(layouts, family, pairs, placed=placed)
    microbatches = layouts.space.shapes.microbatches[family.shape[pairs]].astype(np.float64)
    overhead = layouts.variations.software.step_overhead_s
    if not family.held:
        mean = microbatches * passes.total.sum(axis=1) / family.pp + overhead
        return np.repeat(mean[:, None], len(layouts.space.steps), axis=1) * (1 - ROUNDING)
    example = layouts.example(int(family.shape[pairs[0]]), int(family.layer[pairs[0]]))
    data = message_data(layouts, family, pairs)
    message = prices.messages(data, layouts.strides(family).pp[pairs], family.pp)
    chains = {
        blocks: Chains.of(family, passes, microbatches, message, blocks=blocks) for blocks in (False, True)
    }
    traffic = Traffic.of(layouts, prices, family, pairs, example)
    columns = [traffic.step_s(chains, way) + overhead for way in ways_of(layouts)]
    return np.stack(columns, axis=1) * (1 - ROUNDING)


def message_data(layouts: Layouts, family: Family, pairs: Ints) -> Floats:
    """Return the bytes that one rank sends to the next stage: ``workload.messages.message_bytes``."""
    shapes = layouts.space.shapes
    mine = family.shape[pairs]
    example = layouts.example(int(mine[0]), int(family.layer[pairs[0]]))
    tokens = shapes.mbs[mine] * example.training.seq_length // shapes.cp[mine]
    each = shapes_of(example).element_bytes * example.model.hidden_size
    data: Floats = tokens / shapes.tp[mine] * each
    return data
