"""Which data-parallel ranks share one copy of a state, and which hold copies of each other's shards.

Without a shard size all data- and context-parallel ranks share one copy. With one, the nearest ranks form a
shard group, and groups are replicas of each other: hybrid sharding (FSDP, arXiv:2304.11277, section 3.2.2),
MiCS (arXiv:2205.00119), InternEvo's ``zero1`` size (arXiv:2401.09149).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, overload

from simulator.scenario.sharding import SHARDS_GRADIENTS
from simulator.workload.grid import ExpertMesh, Mesh
from simulator.workload.work import Group

if TYPE_CHECKING:
    from simulator.scenario.parallelism import Axis, Parallelism, Sharding
    from simulator.workload.program import Floats, Ints

X = TypeVar("X", float, "Floats")
"""A number of parameters, or a column of such."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateSharding:
    """What data-parallel ranks share, and who shares it; one object for equal ones.

    Attributes:
        method: What is divided: nothing, optimizer state, gradients too, weights too.
        dense: Who shares the parameters that every data- and context-parallel rank holds.
        experts: Who shares the parameters of experts.
    """

    method: Sharding
    dense: Sharing
    experts: Sharing

    @staticmethod
    def of(parallelism: Parallelism) -> StateSharding:
        """Return the sharding of a layout."""
        return _state_sharding(
            parallelism.sharding,
            parallelism.shard_size,
            parallelism.placement,
            parallelism.tp,
            parallelism.cp,
            parallelism.dp,
            parallelism.pp,
            parallelism.ep,
            parallelism.expert_tp,
        )

    @property
    def shards_gradients(self) -> bool:
        """Whether each rank keeps the gradients of its shard only."""
        return self.method in SHARDS_GRADIENTS

    def updated(self, dense: float, experts: float) -> float:
        """Return how many of such parameters a rank updates: all, or its shard."""
        if self.method == "none":
            return dense + experts
        return self.shard(dense, experts)

    def shard(self, dense: float, experts: float) -> float:
        """Return a rank's part of such parameters, were they sharded."""
        return shard_of(dense, experts, self.dense.shard.size, self.experts.shard.size)


@overload
def shard_of(dense: float, experts: float, dense_ranks: int, expert_ranks: int) -> float: ...
@overload
def shard_of(dense: Floats, experts: Floats, dense_ranks: Ints, expert_ranks: Ints) -> Floats: ...
def shard_of(
    dense: float | Floats, experts: float | Floats, dense_ranks: int | Ints, expert_ranks: int | Ints
) -> float | Floats:
    """Return one rank's part of parameters that so many ranks share."""
    return dense / dense_ranks + experts / expert_ranks


@lru_cache(maxsize=4096)
def _state_sharding(
    method: Sharding,
    shard_size: int | None,
    placement: tuple[Axis, ...],
    tp: int,
    cp: int,
    dp: int,
    pp: int,
    ep: int,
    etp: int,
) -> StateSharding:
    mesh = Mesh(placement=placement, tp=tp, cp=cp, dp=dp, pp=pp)
    experts = ExpertMesh(mesh=mesh, ep=ep, etp=etp)
    return _interned(
        method, _sharing(mesh.replicas(), dp, shard_size), _sharing(experts.replicas(), dp, shard_size)
    )


@lru_cache(maxsize=4096)
def _interned(method: Sharding, dense: Sharing, experts: Sharing) -> StateSharding:
    return StateSharding(method=method, dense=dense, experts=experts)


def _sharing(whole: Group, dp: int, shard_size: int | None) -> Sharing:
    size = whole.size
    if shard_size is not None:
        size = math.gcd(whole.size, max(1, whole.size * shard_size // dp))
    return Sharing(
        whole=whole,
        shard=Group(axis=whole.axis, size=size, stride=whole.stride),
        replica=Group(axis=whole.axis, size=whole.size // size, stride=whole.stride * size),
    )
