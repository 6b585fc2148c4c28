"""Where ranks sit: axis strides, groups and pipeline stages in global rank numbering."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from simulator.workload.work import Group

if TYPE_CHECKING:
    from simulator.scenario.parallelism import Axis, Parallelism

ExpertAxis = Literal["etp", "ep", "edp"]


def stride(parallelism: Parallelism, axis: Axis) -> int:
    """Return the distance between neighbouring ranks of an axis: the product of the axes inside it.

    Experts have a mesh of their own over the ranks of a pipeline stage: see ``expert_group``.
    """
    if axis == "ep":
        return expert_group(parallelism, "ep").stride
    product = 1
    for inner in parallelism.placement:
        if inner == axis:
            return product
        product *= getattr(parallelism, inner)
    raise ValueError(f"placement {parallelism.placement} lacks {axis}")


def axis_group(parallelism: Parallelism, axis: Axis) -> Group:
    """Return the group of one axis."""
    if axis == "ep":
        return expert_group(parallelism, "ep")
    return Group(axis=axis, size=getattr(parallelism, axis), stride=stride(parallelism, axis))


def gradient_group(parallelism: Parallelism) -> Group:
    """Return the ranks that hold the same dense weights: data- and context-parallel ones."""
    inner = min(stride(parallelism, "cp"), stride(parallelism, "dp"))
    outer = stride(parallelism, "dp") if parallelism.cp == 1 else inner
    return Group(axis="dp", size=parallelism.dp * parallelism.cp, stride=outer)


def expert_gradient_group(parallelism: Parallelism) -> Group:
    """Return the ranks that hold the same part of the same experts."""
    return replace(expert_group(parallelism, "edp"), axis="dp")


def expert_group(parallelism: Parallelism, axis: ExpertAxis) -> Group:
    """Return a group of the experts' mesh: expert-tensor, expert-parallel or expert-data ranks.

    The ranks of a pipeline stage are folded a second time: expert-tensor ranks are neighbours where
    tensor-parallel ranks are, then come expert-parallel and expert-data ranks (Megatron-Core's
    ``RankGenerator`` of experts; MoE Parallel Folding, arXiv:2504.14960, section 3). So ``ep`` may reach
    across tensor-parallel ranks.

    >>> from simulator.scenario.parallelism import Parallelism
    >>> folded = Parallelism(tp=2, pp=4, vpp=1, cp=1, ep=8, etp=1, dp=8, sequence_parallel=True,
    ...                      schedule="1f1b", sharding="zero1", stage_layers=(1, 1, 1, 1))
    >>> expert_group(folded, "ep"), expert_group(folded, "edp")
    (Group(axis='ep', size=8, stride=1), Group(axis='edp', size=2, stride=8))
    """
    sizes = {"etp": parallelism.expert_tp, "ep": parallelism.ep, "edp": parallelism.edp}
    inner = 1
    for each in _expert_order(parallelism):
        if each == axis:
            break
        inner *= sizes[each]
    within = inner * _pipelines_inside(parallelism, inner)
    return Group(axis=axis, size=sizes[axis], stride=within)


def _expert_order(parallelism: Parallelism) -> tuple[ExpertAxis, ...]:
    """Return the experts' axes from the inside: tp's place goes to etp, that of cp and dp to ep and edp."""
    places = {axis: number for number, axis in enumerate(parallelism.placement)}
    replicas = [places[axis] for axis in ("cp", "dp") if getattr(parallelism, axis) > 1] or [places["dp"]]
    return ("etp", "ep", "edp") if places["tp"] < min(replicas) else ("ep", "edp", "etp")


def _pipelines_inside(parallelism: Parallelism, inner: int) -> int:
    """Return the pipeline ranks that lie between neighbours ``inner`` ranks of one stage apart."""
    return parallelism.pp if inner >= stride(parallelism, "pp") else 1
