"""Number formats, recomputation and sharding of a published row."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from simulator.errors import RowError
from simulator.scenario.recompute import Recompute
from simulator.scenario.training import Precision

if TYPE_CHECKING:
    from simulator.validation.assumptions import Assumptions
    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

_UNSUPPORTED = ("int8",)
"""Precisions of published rows that cannot be simulated yet."""
_STACK_PARAMS = {"fp8-delayed", "fp8-current", "fp8-mx"}
_ZERO2 = 2


def precision_settings(row: Row, assumptions: Assumptions) -> dict[str, object]:
    """Return the number formats that a row states; weights are stored as its stack's recipes store them.

    Raises:
        RowError: The precision is not known.
    """
    defaults = assumptions.defaults
    stated = assumptions.default("precision", row.precision, defaults.precision)
    if stated in _UNSUPPORTED:
        raise RowError(f"precision {stated} is not simulated yet")
    if stated not in get_args(Precision):
        raise RowError(f"precision {stated!r} is not known")
    document: dict[str, object] = {"precision": stated}
    if (
        defaults.low_precision_params
        and stated in _STACK_PARAMS
        and "training.low_precision_params" not in row.settings
    ):
        assumptions.note(f"weights stored in {stated}: {defaults.name}'s recipes do so")
        document["low_precision_params"] = True
    return document


def recompute_settings(row: Row, assumptions: Assumptions) -> dict[str, object]:
    """Return how much a row recomputes; which modules, if not stated, is up to recipe and software."""
    stated = row.recompute
    modules = "training.recompute_modules"
    of_recipe = modules in assumptions.defaults.recipe(row).settings
    if stated is None and (of_recipe or modules in row.settings):
        stated = "selective"
    default = assumptions.defaults.recompute
    granularity = assumptions.default_word("recompute", stated, get_args(Recompute), default)
    if granularity == "selective" and not of_recipe:
        assumptions.stack_default("recomputed modules", modules)
    return {"recompute": granularity}


def sharding_settings(row: Row, degrees: Degrees, assumptions: Assumptions) -> dict[str, object]:
    """Return the settings of data-parallel sharding; FSDP's words stand before the number of a ZeRO stage.

    The words of rows are those of FSDP and mean the same in a scenario. Behind a pipeline, weights that are
    not resharded after forward stay whole for all micro-batches of a step, which is ZeRO-2 (Llama 3,
    arXiv:2407.21783, section 3.3.2: "asynchronously prefetching sharded model weights"): a row that states
    both leaves the size of FSDP's units open, and the stack's buckets hold. The slices of a TPU row are
    replicas of each other, and a ``zero1_shard_size`` of -1 means all ranks.
    """
    if "parallelism.sharding" in row.settings:
        return {}
    stated = row.parallel.fsdp
    stays_whole = stated == "shard_grad_op" and row.parallel.zero == _ZERO2 and degrees.pp > 1
    if (stated is None or stays_whole) and row.parallel.zero is not None:
        stated = f"zero{row.parallel.zero}" if row.parallel.zero else "none"
    document: dict[str, object] = {
        "sharding": assumptions.default("sharding", stated, assumptions.defaults.sharding)
    }
    if degrees.dp * degrees.cp == 1:
        return document
    sizes = {"parallelism.shard_size", "parallelism.shard_replicas"}
    if stated == "hybrid" and not sizes & row.settings.keys():
        if row.num_slices is not None and row.num_slices > 1:
            return document | {"shard_replicas": row.num_slices}
        assumptions.note("size of the shard group not stated: a node")
    elif stated != "hybrid" and row.zero1_shard_size is not None and row.zero1_shard_size > 0:
        document["shard_size"] = row.zero1_shard_size
    return document
