"""Where ranks sit: strides, groups and pipeline stages in global rank numbering.

Ranks are numbered with the innermost axis of the placement fastest. With placement tp, cp, dp, pp and
tp = 2, cp = 1, dp = 2, pp = 2:

    global rank   0  1  2  3  4  5  6  7
    tp rank       0  1  0  1  0  1  0  1      stride 1
    dp rank       0  0  1  1  0  0  1  1      stride 2 = tp x cp
    pp rank       0  0  0  0  1  1  1  1      stride 4 = tp x cp x dp

Degrees may be numbers, or columns of a search with one layout a row; groups are those of one layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from simulator.workload.work import Group

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from simulator.scenario.parallelism import Axis, Parallelism

N = TypeVar("N", int, "NDArray[np.int64]")
"""A degree: a number, or a column of numbers."""
DenseAxis = Literal["tp", "cp", "dp", "pp"]
ExpertAxis = Literal["etp", "ep", "edp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh(Generic[N]):
    """The mesh of ranks that dense layers see.

    Attributes:
        placement: Axes from the innermost (neighbouring ranks) to the outermost.
        tp: Tensor-parallel ranks.
        cp: Context-parallel ranks.
        dp: Data-parallel replicas.
        pp: Pipeline ranks.
    """

    placement: tuple[Axis, ...]
    tp: N
    cp: N
    dp: N
    pp: N

    @classmethod
    def of(cls, parallelism: Parallelism) -> Mesh[int]:
        """Return the mesh of a layout."""
        return Mesh(
            placement=parallelism.placement,
            tp=parallelism.tp,
            cp=parallelism.cp,
            dp=parallelism.dp,
            pp=parallelism.pp,
        )

    @property
    def gpus(self) -> N:
        """Ranks of the whole job."""
        return self.tp * self.pp * self.cp * self.dp

    def stride(self, axis: DenseAxis) -> N:
        """Return the distance between neighbouring ranks of an axis: the product of the axes inside it."""
        product = self.tp // self.tp  # 1, or a column of ones
        for inner in self.placement:
            if inner == axis:
                return product
            product = product * getattr(self, inner)
        raise ValueError(f"placement {self.placement} lacks {axis}")

    def replica_stride(self) -> N:
        """Return the distance between ranks that hold the same dense weights: cp and dp ones."""
        cp, dp = self.stride("cp"), self.stride("dp")
        context_inside = (self.cp > 1) & (cp < dp)
        return dp + context_inside * (cp - dp)

    def group(self: Mesh[int], axis: DenseAxis) -> Group:
        """Return the group of one axis."""
        return Group(axis=axis, size=getattr(self, axis), stride=self.stride(axis))

    def replicas(self: Mesh[int]) -> Group:
        """Return the ranks that hold the same dense weights: data- and context-parallel ones."""
        return Group(axis="dp", size=self.dp * self.cp, stride=self.replica_stride())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertMesh(Generic[N]):
    """The mesh of ranks that experts see: the ranks of a pipeline stage, folded a second time.

    Expert-tensor ranks are neighbours where tensor-parallel ranks are, then come expert-parallel and
    expert-data ranks (Megatron-Core's ``RankGenerator`` of experts; MoE Parallel Folding, arXiv:2504.14960,
    section 3). So ``ep`` may reach across tensor-parallel ranks.

    >>> mesh = Mesh(placement=("tp", "cp", "dp", "pp"), tp=2, cp=1, dp=8, pp=4)
    >>> folded = ExpertMesh(mesh=mesh, ep=8, etp=1)
    >>> folded.group("ep"), folded.group("edp")
    (Group(axis='ep', size=8, stride=1), Group(axis='edp', size=2, stride=8))

    Attributes:
        mesh: The same ranks as dense layers see them.
        ep: Expert-parallel ranks.
        etp: Ranks that divide each expert.
    """

    mesh: Mesh[N]
    ep: N
    etp: N

    @classmethod
    def of(cls, parallelism: Parallelism) -> ExpertMesh[int]:
        """Return the experts' mesh of a layout."""
        return ExpertMesh(mesh=Mesh.of(parallelism), ep=parallelism.ep, etp=parallelism.expert_tp)

    @property
    def edp(self) -> N:
        """Ranks that hold the same part of the same experts."""
        return self.mesh.tp * self.mesh.cp * self.mesh.dp // (self.etp * self.ep)

    def group(self: ExpertMesh[int], axis: ExpertAxis) -> Group:
        """Return the expert-tensor, the expert-parallel or the expert-data ranks."""
        inner = 1
        for other in self._order():
            if other == axis:
                break
            inner *= getattr(self, other)
        # Pipeline ranks may lie between neighbours that far apart in one stage.
        within = inner * (self.mesh.pp if inner >= self.mesh.stride("pp") else 1)
        return Group(axis=axis, size=getattr(self, axis), stride=within)

    def replicas(self: ExpertMesh[int]) -> Group:
        """Return the ranks that hold the same part of the same experts."""
        experts = self.group("edp")
        return Group(axis="dp", size=experts.size, stride=experts.stride)

    def _order(self: ExpertMesh[int]) -> tuple[ExpertAxis, ...]:
        """Return the axes from the inside: tp's place goes to etp, that of cp and dp to ep and edp."""
        mesh = self.mesh
        tp, cp, dp = (mesh.placement.index(axis) for axis in ("tp", "cp", "dp"))
        replicas = [place for place, size in ((cp, mesh.cp), (dp, mesh.dp)) if size > 1]
        return ("etp", "ep", "edp") if tp < min(replicas, default=dp) else ("ep", "edp", "etp")
