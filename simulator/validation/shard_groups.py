"""What a row's data-parallel ranks share, and in groups of which size."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.validation.blanks import Blanks
    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

_GROUP = re.compile(r"FSDP (?:shard group (\d+)|over \d+ nodes = (\d+) GPUs)")
"""How sources of hybrid rows tell the GPUs of a shard group."""


_ZERO2 = 2


def sharding_document(row: Row, degrees: Degrees, blanks: Blanks) -> dict[str, object]:
    """Return the settings of data-parallel sharding; FSDP's words stand before the number of a ZeRO stage.

    The words of rows are those of FSDP and mean the same in a scenario. Behind a pipeline, weights that are
    not resharded after forward stay whole for all micro-batches of a step, which is ZeRO-2 (Llama 3,
    arXiv:2407.21783, section 3.3.2: "asynchronously prefetching sharded model weights"): a row that states
    both leaves the size of FSDP's units open, and the stack's buckets hold. The slices of a TPU row are
    replicas of each other, and a ``zero1_shard_size`` of -1 means all ranks.
    """
    stated = row.parallel.fsdp
    stays_whole = stated == "shard_grad_op" and row.parallel.zero == _ZERO2 and degrees.pp > 1
    if (stated is None or stays_whole) and row.parallel.zero is not None:
        stated = f"zero{row.parallel.zero}" if row.parallel.zero else "none"
    document: dict[str, object] = {"sharding": blanks.fill("sharding", stated, blanks.defaults.sharding)}
    if degrees.dp * degrees.cp == 1:
        return document
    if stated == "hybrid":
        return document | _hybrid(row, degrees, blanks)
    if row.zero1_shard_size is not None and row.zero1_shard_size > 0:
        document["shard_size"] = row.zero1_shard_size
    return document


def _hybrid(row: Row, degrees: Degrees, blanks: Blanks) -> dict[str, object]:
    told = _GROUP.search(row.notes)
    if told is not None:
        gpus = int(told[1] or told[2])
        return {"shard_size": max(1, gpus // (degrees.tp * degrees.cp))}
    if row.num_slices is not None and row.num_slices > 1:
        return {"shard_replicas": row.num_slices}
    blanks.note("size of the shard group not stated: a node")
    return {}
