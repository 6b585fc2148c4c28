"""How much faster matrix products run where a power-limited GPU rests between them.

A GPU at its power limit sustains a clock at which back-to-back products just draw the limit. What it does not
draw while it waits for a collective, or while kernels are bound by memory, is left for the products:

    rate / sustained rate = 1 + min(headroom, idle * idle share + memory * memory share)

with the shares of time that a layer waits and that its memory-bound kernels run. The coefficients were
measured (see ``power`` of the GPUs). The limit averages over some 20 ms, about a layer, and not over the
bubble of a pipeline.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.workload.program import Stream
from simulator.workload.work import Attention, Gemm

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.engines.durations import Durations
    from simulator.workload.program import Program


def relieved(program: Program, alone: Durations, makespan_s: float, system: System) -> Durations:
    """Return the durations of a layer's ops where its products have the power that the rest leaves.

    Args:
        program: One layer on one rank.
        alone: Durations of its ops at the sustained clock.
        makespan_s: How long the layer takes with these.
        system: The hardware and the software.
    """
    power = system.cluster.gpu.power
    if power is None or makespan_s <= 0.0:
        return alone
    on_device = program.stream == Stream.COMPUTE
    products = np.asarray([isinstance(work, Gemm | Attention) for work in program.works])[program.work]
    products &= on_device
    product_s, busy_s = float(alone.fixed_s[products].sum()), float(alone.fixed_s[on_device].sum())
    waits = max(makespan_s - busy_s, 0.0) / makespan_s
    streams = (busy_s - product_s) / makespan_s
    relief = min(power.headroom, power.idle * waits + power.memory * streams)
    fixed_s = alone.fixed_s.copy()
    fixed_s[products] /= 1.0 + relief
    return replace(alone, fixed_s=fixed_s)


def at_best_s(program: Program, alone: Durations, system: System) -> float:
    """Return the seconds that a layer's kernels take at least, with all the headroom there is."""
    power = system.cluster.gpu.power
    seconds = alone.fixed_s[program.stream == Stream.COMPUTE].sum()
    return float(seconds) / (1.0 + (power.headroom if power else 0.0))
