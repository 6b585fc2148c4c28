"""Where ranks sit: axis strides, groups and pipeline stages in global rank numbering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.work import Group

if TYPE_CHECKING:
    from simulator.scenario.parallelism import Axis, Parallelism


def stride(parallelism: Parallelism, axis: Axis) -> int:
    """Return the distance between neighbouring ranks of an axis: the product of the axes inside it.

    Expert parallelism is taken out of ``cp`` and ``dp``, so its ranks start where tensor parallelism ends.
    """
    if axis == "ep":
        return stride(parallelism, "cp" if parallelism.cp > 1 else "dp")
    product = 1
    for inner in parallelism.placement:
        if inner == axis:
            return product
        product *= getattr(parallelism, inner)
    raise ValueError(f"placement {parallelism.placement} lacks {axis}")


def axis_group(parallelism: Parallelism, axis: Axis) -> Group:
    """Return the group of one axis."""
    return Group(axis=axis, size=getattr(parallelism, axis), stride=stride(parallelism, axis))


def gradient_group(parallelism: Parallelism) -> Group:
    """Return the ranks that hold the same dense weights: data- and context-parallel ones."""
    inner = min(stride(parallelism, "cp"), stride(parallelism, "dp"))
    outer = stride(parallelism, "dp") if parallelism.cp == 1 else inner
    return Group(axis="dp", size=parallelism.dp * parallelism.cp, stride=outer)


def expert_gradient_group(parallelism: Parallelism) -> Group:
    """Return the ranks that hold the same experts."""
    whole = gradient_group(parallelism)
    return Group(axis="dp", size=whole.size // parallelism.ep, stride=whole.stride * parallelism.ep)


def rank_of_stage(parallelism: Parallelism, stage: int) -> int:
    """Return the pipeline rank that runs a global stage when chunks loop over the ranks."""
    return stage % parallelism.pp
