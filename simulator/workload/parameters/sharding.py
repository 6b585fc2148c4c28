"""Which data-parallel ranks share one copy of a state, and which hold copies of each other's shards.

Without a shard size all data- and context-parallel ranks share one copy. With one, the nearest ranks form a
shard group, and groups are replicas of each other: hybrid sharding (FSDP, arXiv:2304.11277, section 3.2.2),
MiCS (arXiv:2205.00119), InternEvo's ``zero1`` size (arXiv:2401.09149).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.workload.grid import expert_gradient_group, gradient_group
from simulator.workload.work import Group

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.parallelism import Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The data-parallel ranks of one kind of parameters.

    Attributes:
        whole: All ranks that hold the same parameters.
        shard: Those among which one copy is divided.
        replica: Those that hold the same shard.
    """

    whole: Group
    shard: Group
    replica: Group


@remembered
def dense_sharing(scenario: Scenario) -> Sharing:
    """Return who shares the parameters that every data- and context-parallel rank holds."""
    return _sharing(gradient_group(scenario.parallelism), scenario.parallelism)


@remembered
def expert_sharing(scenario: Scenario) -> Sharing:
    """Return who shares the parameters of experts."""
    return _sharing(expert_gradient_group(scenario.parallelism), scenario.parallelism)


def _sharing(whole: Group, parallelism: Parallelism) -> Sharing:
    size = whole.size
    if parallelism.shard_size is not None:
        wanted = max(1, whole.size * parallelism.shard_size // parallelism.dp)
        size = math.gcd(whole.size, wanted)
    return Sharing(
        whole=whole,
        shard=Group(axis=whole.axis, size=size, stride=whole.stride),
        replica=Group(axis=whole.axis, size=whole.size // size, stride=whole.stride * size),
    )
