"""How the model and the batch are divided among GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["tp", "cp", "ep", "dp", "pp"]
Sharding = Literal["none", "zero1", "zero2", "zero3"]
ContextExchange = Literal["all_gather", "ring", "all_to_all", "hierarchical"]


VocabularyMethod = Literal["none", "vocab-1", "vocab-2", "interlaced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """Degrees of parallelism and how the pipeline is run.

    Attributes:
        tp: Tensor-parallel ranks.
        pp: Pipeline-parallel ranks.
        vpp: Model chunks per pipeline rank (virtual pipeline).
        cp: Context-parallel ranks.
        ep: Expert-parallel ranks. The ranks of a pipeline stage form a second mesh for experts:
            ``dp * cp * tp == edp * ep * etp`` (parallel folding, arXiv:2504.14960).
        etp: Ranks that divide each expert (expert tensor parallelism); None: as many as tp.
        dp: Data-parallel replicas.
        sequence_parallel: Whether norms and residuals are divided along the sequence among tp ranks.
        schedule: Name of the pipeline schedule.
        sharding: What data-parallel ranks share: nothing, optimizer state, gradients too, parameters too.
        stage_layers: Transformer layers of each stage (``pp * vpp`` numbers, in model order).
        placement: Axes from the innermost (neighbouring ranks) to the outermost.
        cp_comm: How context-parallel ranks see each other's keys and values: gathered before the attention
            (Llama 3), passed around a ring while it runs (ring attention, Megatron's default), exchanged for
            heads (``all_to_all``, Ulysses), or the last among neighbours and a ring of them
            (``hierarchical``).
        cp_heads: Neighbouring ranks that exchange heads in the hierarchical scheme.
        cp_balance: Whether each rank holds a piece of the sequence's front and one of its back (zig-zag), so
            that causal attention is equal work for all; otherwise each holds one contiguous part.
        shard_size: Data-parallel ranks that share one copy of what ``sharding`` divides, or None for all of
            them; further ranks hold replicas (hybrid sharding).
        reshard_after_forward: Whether zero3 frees gathered weights after a forward pass and gathers them
            again for the backward pass.
        prefetch: Layers whose weights zero3 gathers ahead of the one that runs.
        reduce_every_microbatch: Whether gradients are reduced after each micro-batch, or summed locally and
            reduced after the last one.
        schedule_rows: The actions of each rank in PyTorch's CSV form, where ``schedule`` is ``custom``.
        microbatch_group_size: Micro-batches that go through a model chunk before the next chunk's turn in
            interleaved schedules, or None for as many as pipeline ranks.
        vocabulary: How the embedding and the head are divided among pipeline ranks (arXiv:2411.05288).
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
    shard_size: int | None = None
    reshard_after_forward: bool = True
    prefetch: int = 1
    reduce_every_microbatch: bool = False
    cp_heads: int = 1
    cp_balance: bool = True
    etp: int | None = None
    schedule_rows: tuple[str, ...] = ()
    microbatch_group_size: int | None = None
    vocabulary: VocabularyMethod = "none"

    @property
    def gpus(self) -> int:
        """GPUs of the whole job: ``tp * pp * cp * dp``."""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def expert_tp(self) -> int:
        """Ranks that divide each expert."""
        return self.tp if self.etp is None else self.etp

    @property
    def edp(self) -> int:
        """Ranks that hold the same part of the same experts."""
        return self.tp * self.cp * self.dp // (self.expert_tp * self.ep)
