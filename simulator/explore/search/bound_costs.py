"""Seconds of what a bound counts besides layers: messages, collectives of data-parallel ranks, the optimizer.

Every distinct one is priced once, by the simulation's own prices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from simulator.costs.collectives import collective_cost, transfer_cost
from simulator.costs.elementwise import elementwise_s
from simulator.workload.step.messages import message
from simulator.workload.work import Collective, CollectiveKind, Elementwise, Group

if TYPE_CHECKING:
    from simulator.costs.system import System
    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.space import Ints

_MANY_BYTES = 1e15
"""So many that starting a kernel counts for nothing."""


@dataclass(slots=True)
class Prices:
    """Prices on one system, each asked for once.

    Attributes:
        system: The hardware and the software.
    """

    system: System
    _collectives: dict[tuple[object, ...], float] = field(default_factory=dict)
    _messages: dict[tuple[float, int, int], float] = field(default_factory=dict)

    def collective(self, kind: CollectiveKind, size: int, stride: int, data: float) -> float:
        """Return the seconds of one collective of ``data`` bytes.

        Several that carry as much together take no less: the price of every algorithm is a latency, the bytes
        over a rate, and a square root of them (``costs.algorithms``): concave and not negative, and so is the
        cheapest one's; such a function is subadditive.
        """
        key = (kind, size, stride, data)
        if size <= 1 or not data:
            return 0.0
        if key not in self._collectives:
            group = Group(axis="dp", size=size, stride=stride)
            cost = collective_cost(Collective(kind=kind, group=group, bytes=data), self.system.cluster)
            self._collectives[key] = cost.alone_s
        return self._collectives[key]

    def message(self, data: float, stride: int, pp: int) -> float:
        """Return the seconds of the fastest of the messages between neighbouring pipeline ranks.

        Some may stay inside a scale-up domain; between which ranks, repeats with the domains.
        """
        key = (data, stride, pp)
        if key not in self._messages:
            hops = min(pp - 1, self.system.cluster.scale_up_domain)
            costs = [
                transfer_cost(message(data, stride, rank, rank + 1), self.system.cluster)
                for rank in range(hops)
            ]
            self._messages[key] = min(cost.alone_s for cost in costs)
        return self._messages[key]

    def messages(self, data: Floats, stride: Ints, pp: int) -> Floats:
        """Return the seconds of the fastest message of many shapes; zero without a pipeline."""
        if pp == 1:
            return np.zeros(len(data))
        distinct, of = np.unique(np.stack([data, stride], axis=1), axis=0, return_inverse=True)
        seconds = [self.message(much, int(apart), pp) for much, apart in distinct.tolist()]
        return np.asarray(seconds)[of.reshape(-1)]

    @property
    def hbm_s_per_byte(self) -> float:
        """Seconds per byte of a memory-bound kernel whose bytes are counted whole, its start left out."""
        work = Elementwise(name="optimizer", bytes_moved=_MANY_BYTES, kernels=0)
        return elementwise_s(work, self.system.cluster.gpu) / _MANY_BYTES
