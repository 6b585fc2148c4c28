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

from typing import TYPE_CHECKING

import numpy as np

from simulator.explore.search.data_parallel_bound import Traffic, step_options_of
from simulator.explore.search.memory_bound import ROUNDING
from simulator.explore.search.pipeline_paths import Chains, Passes
from simulator.explore.search.rules import divides_sequence
from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype
from simulator.workload.step.messages import message_bytes

if TYPE_CHECKING:
    from simulator.explore.search.bound_costs import Prices
    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.layouts import Layouts
    from simulator.explore.search.pipelines import Family
    from simulator.explore.search.space import Ints


def time_bound(
    layouts: Layouts, prices: Prices, family: Family, pairs: Ints, *, with_topology: bool
) -> Floats:
    """Return seconds that a step takes at least, by pair and way of running steps.

    Args:
        layouts: The layouts.
        prices: Prices on their hardware.
        family: Some layouts with one pipeline.
        pairs: Which of its pairs.
        with_topology: Whether to run their layers, or to count kernels only.
    """
    passes = Passes.of(layouts, family, pairs, with_topology=with_topology)
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
    columns = [traffic.step_s(chains, way) + overhead for way in step_options_of(layouts)]
    return np.stack(columns, axis=1) * (1 - ROUNDING)


def message_data(layouts: Layouts, family: Family, pairs: Ints) -> Floats:
    """Return the bytes that one rank sends to the next stage, by pair."""
    shapes, space = layouts.space.shapes, layouts.space
    mine = family.shape[pairs]
    example = layouts.example(int(mine[0]), int(family.layer[pairs[0]]))
    sent = message_bytes(
        shapes.mbs[mine] * example.training.seq_length // shapes.cp[mine],
        shapes.tp[mine],
        example.model.hidden_size * BYTES_PER_ELEMENT[wide_dtype(example.training.precision)],
        whole_messages=layouts.variations.software.whole_messages,
        sequence_parallel=divides_sequence(space.values, space.layers)[family.layer[pairs]],
    )
    return np.asarray(sent)
