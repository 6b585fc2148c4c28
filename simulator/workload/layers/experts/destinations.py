"""How many different ranks, or nodes, the experts of one token lie on."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.workload.work import Routing


@lru_cache(maxsize=4096)
def expected_targets(routing: Routing, units: int) -> float:
    """Return the expected number of units that hold at least one expert of a token.

    Experts are spread evenly and in order over the units; every choice of groups, and of experts inside
    them, is equally likely. Kernels that send a token once per unit send so many.

    >>> from simulator.workload.work import Routing
    >>> expected_targets(Routing(experts=8, copies=8), 4)
    4.0
    >>> round(expected_targets(Routing(experts=256, copies=8), 8), 2)
    5.29
    >>> round(expected_targets(Routing(experts=256, copies=8, groups=8, chosen_groups=4), 8), 2)
    3.63
    """
    in_unit = routing.experts // units
    in_group = routing.experts // routing.groups
    if in_unit >= in_group:
        whole = in_unit // in_group
        missed = sum(
            _hypergeometric(routing.groups, whole, routing.chosen_groups, chosen)
            * _all_miss(routing, chosen * in_group)
            for chosen in range(min(whole, routing.chosen_groups) + 1)
        )
    else:
        share = routing.chosen_groups / routing.groups
        missed = 1 - share + share * _all_miss(routing, in_unit)
    return units * (1 - missed)


def _all_miss(routing: Routing, experts: int) -> float:
    """Return the chance that none of a token's copies goes to ``experts`` of those that it may choose."""
    pool = routing.chosen_groups * routing.experts // routing.groups
    if pool - experts < routing.copies:
        return 0.0
    return math.comb(pool - experts, routing.copies) / math.comb(pool, routing.copies)


def _hypergeometric(population: int, marked: int, drawn: int, found: int) -> float:
    if drawn - found > population - marked:
        return 0.0
    ways = math.comb(marked, found) * math.comb(population - marked, drawn - found)
    return ways / math.comb(population, drawn)
