"""The model to train: a decoder-only transformer, in Hugging Face's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Positional = Literal["rope", "learned", "alibi", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture-of-experts part of a model.

    Attributes:
        num_experts: Routed experts in each mixture-of-experts layer.
        num_experts_per_tok: Experts that each token visits (top-k).
        moe_intermediate_size: Width of one routed expert's hidden layer.
        num_shared_experts: Experts that every token visits, of the same width as a routed one.
        first_k_dense_replace: Leading layers that keep a dense feed-forward block.
        moe_layer_step: Every how many layers (after the dense ones) one has experts.
    """

    num_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    num_shared_experts: int = 0
    first_k_dense_replace: int = 0
    moe_layer_step: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1)."""

    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder-only transformer.

    Attributes:
        name: How reports call it.
        num_hidden_layers: Transformer layers.
        hidden_size: Width of the residual stream.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads (grouped-query attention when fewer than query heads).
        head_dim: Width of one head.
        intermediate_size: Width of the dense feed-forward block's hidden layer.
        vocab_size: Rows of the embedding table as trained.
        gated: Whether the feed-forward block has a gate (SwiGLU, GeGLU): three matrices instead of two.
        tie_word_embeddings: Whether the output head shares the embedding's weights.
        positional: How positions are encoded; ``learned`` adds ``max_position_embeddings`` rows.
        max_position_embeddings: Rows of the learned position table.
        norm: Kind of normalisation; a LayerNorm has a bias, an RMSNorm has none.
        linear_bias: Whether projections carry a bias.
        qkv_bias: Whether the query, key and value projections carry one (Qwen2) although others do not.
        qk_norm: Whether queries and keys are normalised per head (Qwen3).
        parallel_blocks: Whether attention and feed-forward read the same input (GPT-J, PaLM).
        sliding_window: Tokens that each query attends to at most; None for full attention.
        sliding_window_every: Of every so many layers, all but the last use the window; 1: every layer does.
        num_nextn_predict_layers: Multi-token-prediction layers at the end (DeepSeek-V3).
        experts: The mixture-of-experts part, or None for a dense model.
        latent_attention: Multi-head latent attention, or None.
        source: Where the numbers were read.
    """

    name: str
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    gated: bool = True
    tie_word_embeddings: bool = False
    positional: Positional = "rope"
    max_position_embeddings: int = 0
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    linear_bias: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    parallel_blocks: bool = False
    sliding_window: int | None = None
    sliding_window_every: int = 1
    num_nextn_predict_layers: int = 0
    experts: Experts | None = None
    latent_attention: LatentAttention | None = None
    source: str = field(default="", compare=False)

    def is_moe_layer(self, layer: int) -> bool:
        """Tell whether layer ``layer`` (from 0) has experts instead of a dense feed-forward block."""
        if self.experts is None or layer < self.experts.first_k_dense_replace:
            return False
        return (layer - self.experts.first_k_dense_replace + 1) % self.experts.moe_layer_step == 0

    def window(self, layer: int) -> int | None:
        """Return the attention window of layer ``layer``, or None where it attends to everything."""
        if self.sliding_window is None:
            return None
        is_full = self.sliding_window_every > 1 and (layer + 1) % self.sliding_window_every == 0
        return None if is_full else self.sliding_window
