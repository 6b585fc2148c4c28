"""The model to train: a decoder-only transformer, in Hugging Face's words."""

from dataclasses import dataclass, field
from typing import Literal

from simulator.scenario.content import content_hash
from simulator.scenario.stated import Count, Size

Positional = Literal["rope", "learned", "alibi", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture-of-experts part of a model."""

    num_experts: Size
    """Routed experts in each mixture-of-experts layer."""
    num_experts_per_tok: Size
    """Experts that each token visits (top-k)."""
    moe_intermediate_size: Size
    """Width of one routed expert's hidden layer."""
    num_shared_experts: Count = 0
    """Experts that every token visits, of the same width as a routed one."""
    first_k_dense_replace: Count = 0
    """Leading layers that keep a dense feed-forward block."""
    moe_layer_step: Size = 1
    """Every how many layers (after the dense ones) one has experts."""
    n_group: Size = 1
    """Groups that the experts form; a token's experts lie in ``topk_group`` of them."""
    topk_group: Size = 1
    """Groups that one token visits at most (DeepSeek-V3, arXiv:2412.19437, section 2.1.2)."""
    moe_latent_size: Size | None = None
    """Width to which tokens are projected before they travel to routed experts, and from which the results
    are projected back (LatentMoE of Nemotron 3); None: experts take whole tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1)."""

    q_lora_rank: Size | None = None
    """Width of the compressed query; None: queries are not compressed."""
    kv_lora_rank: Size
    """Width of the compressed key and value."""
    qk_nope_head_dim: Size
    """Width of the part of a query that carries no position."""
    qk_rope_head_dim: Size
    """Width of the rotated part of a query."""
    v_head_dim: Size
    """Width of a value head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba:
    """Mamba-2 layers (state-space duality, arXiv:2405.21060)."""

    num_heads: Size
    """Heads."""
    head_dim: Size
    """Width of one head; all heads together are the inner width."""
    state_size: Size
    """Size of the state of each channel."""
    n_groups: Size
    """Groups of heads that share the input and output projections of their states."""
    conv_kernel: Size = 4
    """Tokens that the causal convolution sees."""
    chunk_size: Size = 128
    """Tokens that are computed like attention; states pass from chunk to chunk."""

    @property
    def inner(self) -> int:
        """Width of all heads."""
        return self.num_heads * self.head_dim

    @property
    def convolved(self) -> int:
        """Channels of the convolution: the inner width, and the input and output projections of states."""
        return self.inner + 2 * self.n_groups * self.state_size


Block = Literal["layer", "M", "*", "-", "E"]
BLOCKS: tuple[Block, ...] = ("M", "*", "-", "E")


def block_of(letter: str) -> Block:
    """Return the block that a letter of a pattern stands for.

    Raises:
        ValueError: No block has that letter.
    """
    for block in BLOCKS:
        if block == letter:
            return block
    raise ValueError(f"{letter!r} is none of the blocks {', '.join(BLOCKS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder-only transformer."""

    name: str
    """How reports call it."""
    num_hidden_layers: Size
    """Transformer layers."""
    hidden_size: Size
    """Width of the residual stream."""
    num_attention_heads: Size
    """Query heads."""
    num_key_value_heads: Size
    """Key and value heads (grouped-query attention when fewer than query heads)."""
    head_dim: Size
    """Width of one head."""
    intermediate_size: Size
    """Width of the dense feed-forward block's hidden layer."""
    vocab_size: Size
    """Rows of the embedding table as trained."""
    gated: bool = True
    """Whether the feed-forward block has a gate (SwiGLU, GeGLU): three matrices instead of two."""
    tie_word_embeddings: bool = False
    """Whether the output head shares the embedding's weights."""
    positional: Positional = "rope"
    """How positions are encoded; ``learned`` adds ``max_position_embeddings`` rows."""
    max_position_embeddings: Count = 0
    """Rows of the learned position table."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Kind of normalisation; a LayerNorm has a bias, an RMSNorm has none."""
    linear_bias: bool = False
    """Whether projections carry a bias."""
    qkv_bias: bool = False
    """Whether the query, key and value projections carry one (Qwen2) although others do not."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head (Qwen3)."""
    parallel_blocks: bool = False
    """Whether attention and feed-forward read the same input (GPT-J, PaLM)."""
    residual_dropout: bool = False
    """Whether what is added to the residual stream goes through dropout."""
    sliding_window: Size | None = None
    """Tokens that each query attends to at most; None for full attention."""
    sliding_window_every: Size = 1
    """Of every so many layers, all but the last use the window or the chunks; 1: every layer does."""
    attention_chunk_size: Size | None = None
    """Length of the chunks that attention never leaves (Llama 4); None without."""
    num_nextn_predict_layers: Count = 0
    """Multi-token-prediction layers at the end (DeepSeek-V3)."""
    experts: Experts | None = None
    """The mixture-of-experts part, or None for a dense model."""
    latent_attention: LatentAttention | None = None
    """Multi-head latent attention, or None."""
    layer_pattern: str | None = None
    """One letter per layer of a hybrid model, each layer being one block: ``M`` Mamba-2, ``*`` attention,
    ``-`` dense feed-forward, ``E`` experts (Nemotron-H, arXiv:2504.03624); None: every layer has attention
    and a feed-forward block."""
    mamba: Mamba | None = None
    """Its Mamba-2 layers, or None."""
    mtp_layer_pattern: str = "*E"
    """Blocks of one multi-token-prediction layer of a hybrid model."""
    mtp_repeats_layer: bool = False
    """Whether all prediction layers share their weights."""
    source: str = field(default="", compare=False)
    """Where the numbers were read."""

    def __hash__(self) -> int:
        """Hash by content, once for each object."""
        return content_hash(self)

    def is_moe_layer(self, layer: int) -> bool:
        """Tell whether layer ``layer`` (from 0) has experts instead of a dense feed-forward block."""
        if self.layer_pattern is not None:
            return self.layer_pattern[layer] == "E"
        if self.experts is None or layer < self.experts.first_k_dense_replace:
            return False
        return (layer - self.experts.first_k_dense_replace + 1) % self.experts.moe_layer_step == 0

    def block(self, layer: int) -> Block:
        """Return what layer ``layer`` (from 0) is: ``layer``, or the block of a hybrid model."""
        return "layer" if self.layer_pattern is None else block_of(self.layer_pattern[layer])

    @property
    def prediction_blocks(self) -> tuple[Block, ...]:
        """Blocks of one multi-token-prediction layer."""
        return ("layer",) if self.layer_pattern is None else tuple(map(block_of, self.mtp_layer_pattern))

    def window(self, layer: int) -> int | None:
        """Return the attention window of layer ``layer``, or None where it attends to everything."""
        return None if self._attends_to_all(layer) else self.sliding_window

    def chunk(self, layer: int) -> int | None:
        """Return the length of the chunks that layer ``layer`` attends within, or None without chunks."""
        return None if self._attends_to_all(layer) else self.attention_chunk_size

    def _attends_to_all(self, layer: int) -> bool:
        return self.sliding_window_every > 1 and (layer + 1) % self.sliding_window_every == 0
