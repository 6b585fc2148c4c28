"""How the model and the batch are divided among GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["tp", "cp", "ep", "dp", "pp"]
Sharding = Literal["none", "zero1", "zero2", "zero3"]
ContextExchange = Literal["all_gather", "ring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Degrees of parallelism and how the pipeline is run.

    Attributes:
        tp: Tensor-parallel ranks.
        pp: Pipeline-parallel ranks.
        vpp: Model chunks per pipeline rank (virtual pipeline).
        cp: Context-parallel ranks.
        ep: Expert-parallel ranks, taken out of ``dp * cp``.
        dp: Data-parallel replicas.
        sequence_parallel: Whether norms and residuals are divided along the sequence among tp ranks.
        schedule: Name of the pipeline schedule.
        sharding: What data-parallel ranks share: nothing, optimizer state, gradients too, parameters too.
        stage_layers: Transformer layers of each stage (``pp * vpp`` numbers, in model order).
        placement: Axes from the innermost (neighbouring ranks) to the outermost.
        cp_comm: How context-parallel ranks see each other's keys and values: gathered before the attention
            (Llama 3), or passed around a ring while it runs (ring attention, Megatron's default).
    """

    tp: int
    pp: int
    vpp: int
    cp: int
    ep: int
    dp: int
    sequence_parallel: bool
    schedule: str
    sharding: Sharding
    stage_layers: tuple[int, ...]
    placement: tuple[Axis, ...] = ("tp", "cp", "dp", "pp")
    cp_comm: ContextExchange = "all_gather"

    @property
    def gpus(self) -> int:
        """GPUs of the whole job: ``tp * pp * cp * dp``."""
        return self.tp * self.pp * self.cp * self.dp
