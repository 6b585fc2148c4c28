"""What to look for the best layout among, and what best means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

RankBy = Literal["throughput", "cost", "gpus"]
Front = Literal["none", "memory", "gpus"]

AXES: dict[str, str] = {
    "tp": "parallelism.tp",
    "pp": "parallelism.pp",
    "vpp": "parallelism.vpp",
    "cp": "parallelism.cp",
    "ep": "parallelism.ep",
    "layers": "parallelism.layers",
    "schedule": "parallelism.schedule",
    "sharding": "parallelism.sharding",
    "sequence_parallel": "parallelism.sequence_parallel",
    "placement": "parallelism.placement",
    "mbs": "training.micro_batch_size",
    "recompute": "training.recompute",
    "offload_activations": "training.offload.activations",
    "offload_optimizer": "training.offload.optimizer",
    "overlap_tp": "training.overlap.tp",
    "overlap_grad_reduce": "training.overlap.grad_reduce",
    "overlap_param_gather": "training.overlap.param_gather",
    "overlap_p2p": "training.overlap.p2p",
}
"""Settings whose values a search can find by itself, by their short names."""

NAMES: dict[str, str] = AXES | {
    "gpus": "cluster.gpus",
    "gpu": "cluster.gpu",
    "network": "cluster.network",
    "gbs": "training.global_batch_size",
    "seq": "training.seq_length",
    "precision": "training.precision",
    "software": "software",
    "model": "model",
}
"""Short names of settings that a search may choose; values of the last ones have to be listed."""

USUAL = ("tp", "pp", "vpp", "cp", "ep", "layers", "sharding", "sequence_parallel", "mbs", "recompute")
"""Settings that are free unless a scenario says which are: those of a layout, not those of the software."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search: which settings are free, and which of their combinations is best.

    Attributes:
        free: Dotted path of each free setting to the values it may take, or None for every value that makes
            sense; all other settings stay as the scenario has them.
        rank_by: ``throughput``: most tokens per second; ``cost``: fewest GPU hours (or dollars) per token;
            ``gpus``: fewest GPUs that reach the target.
        top: How many of the best layouts are wanted.
        front: Also the layouts that nothing beats in both throughput and peak memory (or number of GPUs).
        tokens_per_s: Layouts must train on so many tokens per second, or None.
    """

    free: Mapping[str, tuple[object, ...] | None]
    rank_by: RankBy = "throughput"
    top: int = 10
    front: Front = "none"
    tokens_per_s: float | None = None
