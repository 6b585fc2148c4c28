"""Schema of a model, in Hugging Face's words."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.catalogue.entry import Entry
from simulator.documents import Also, Count, PositiveCount, PositiveTokens, Strict
from simulator.scenario import Experts, LatentAttention, Mamba, Model
from simulator.scenario.model import Positional  # noqa: TC001  pydantic reads it


class ExpertsEntry(Strict):
    """The mixture-of-experts part."""

    num_experts: PositiveCount
    """Routed experts in each mixture-of-experts layer."""
    num_experts_per_tok: PositiveCount
    """Experts that each token visits."""
    moe_intermediate_size: PositiveCount
    """Width of one routed expert's hidden layer."""
    num_shared_experts: Count = 0
    """Experts that every token visits, of the same width."""
    first_k_dense_replace: Count = 0
    """Leading layers that keep a dense feed-forward block."""
    moe_layer_step: PositiveCount = 1
    """Every how many layers one has experts."""
    n_group: PositiveCount = 1
    """Groups that the experts form."""
    topk_group: PositiveCount = 1
    """Groups that one token visits at most."""
    moe_latent_size: PositiveCount | None = None
    """Width to which tokens are projected for routed experts; none: experts take whole tokens."""

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError(
                f"a token cannot visit {self.num_experts_per_tok} of {self.num_experts} experts"
                " (num_experts_per_tok > num_experts)"
            )
        if self.num_experts % self.n_group or self.topk_group > self.n_group:
            raise ValueError(
                f"{self.num_experts} experts do not form {self.n_group} equal groups of which a token visits"
                f" {self.topk_group} (n_group, topk_group)"
            )
        if self.topk_group * self.num_experts // self.n_group < self.num_experts_per_tok:
            raise ValueError(
                f"{self.topk_group} groups of {self.num_experts // self.n_group} experts are fewer than the"
                f" {self.num_experts_per_tok} that a token visits (topk_group)"
            )
        return self


class LatentAttentionEntry(Strict):
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434)."""

    q_lora_rank: PositiveCount | None = None
    """Width of the compressed query; none: queries are not compressed."""
    kv_lora_rank: PositiveCount
    """Width of the compressed key and value."""
    qk_nope_head_dim: PositiveCount
    """Width of the part of a query that carries no position."""
    qk_rope_head_dim: PositiveCount
    """Width of the rotated part of a query."""
    v_head_dim: PositiveCount
    """Width of a value head."""


class MambaEntry(Strict):
    """Mamba-2 layers (arXiv:2405.21060)."""

    num_heads: PositiveCount
    """Heads."""
    head_dim: PositiveCount
    """Width of one head."""
    state_size: PositiveCount
    """Size of the state of each channel."""
    n_groups: PositiveCount
    """Groups of heads that share the input and output projections of their states."""
    conv_kernel: PositiveCount = 4
    """Tokens that the causal convolution sees."""
    chunk_size: PositiveCount = 128
    """Tokens that are computed like attention; states pass from chunk to chunk."""


class ModelEntry(Entry):
    """A decoder-only transformer: inline in a scenario, the first five sizes are enough."""

    entry_kind: ClassVar[str] = "model"

    num_hidden_layers: PositiveCount
    """Transformer layers."""
    hidden_size: PositiveCount
    """Width of the residual stream."""
    num_attention_heads: PositiveCount
    """Query heads."""
    intermediate_size: PositiveCount
    """Width of the dense feed-forward block's hidden layer."""
    vocab_size: PositiveCount
    """Rows of the embedding table as trained."""
    num_key_value_heads: PositiveCount | None = None
    """Key and value heads; as many as query heads unless stated."""
    head_dim: PositiveCount | None = None
    """Width of one head; hidden_size / num_attention_heads unless stated."""
    gated: bool = True
    """Whether the feed-forward block has a gate (SwiGLU, GeGLU): three matrices instead of two."""
    tie_word_embeddings: bool = False
    """Whether the output head shares the embedding's weights."""
    positional: Positional = "rope"
    """How positions are encoded; learned ones need max_position_embeddings."""
    max_position_embeddings: Count = 0
    """Rows of the learned position table."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Kind of normalisation."""
    linear_bias: bool = False
    """Whether projections carry a bias."""
    qkv_bias: bool = False
    """Whether the query, key and value projections carry one although others do not."""
    qk_norm: bool = False
    """Whether queries and keys are normalised per head."""
    parallel_blocks: bool = False
    """Whether attention and feed-forward read the same input."""
    residual_dropout: bool | None = None
    """Whether what is added to the residual stream goes through dropout; default: as linear_bias (GPT-3)."""
    sliding_window: PositiveCount | None = None
    """Tokens that each query attends to at most."""
    attention_chunk_size: PositiveCount | None = None
    """Length of the chunks that attention never leaves."""
    sliding_window_every: PositiveCount = 1
    """Of every so many layers, all but the last use the window or the chunks; 1: every layer does."""
    num_nextn_predict_layers: Count = 0
    """Multi-token-prediction layers at the end."""
    experts: ExpertsEntry | None = None
    """The mixture-of-experts part."""
    latent_attention: LatentAttentionEntry | None = None
    """Multi-head latent attention."""
    layer_pattern: Annotated[str | None, Field(pattern=r"^[M*E-]+$"), Also("hybrid_override_pattern")] = None
    """One letter per layer of a hybrid model: M Mamba-2, * attention, - dense feed-forward, E experts."""
    mamba: MambaEntry | None = None
    """Its Mamba-2 layers."""
    mtp_layer_pattern: Annotated[str, Field(pattern=r"^[M*E-]+$"), Also("mtp_hybrid_override_pattern")] = "*E"
    """Blocks of one multi-token-prediction layer of a hybrid model."""
    mtp_repeats_layer: bool = False
    """Whether all multi-token-prediction layers share their weights."""
    source: str = Field(default="stated without a source", min_length=1)
    """Where the numbers were read."""
    published_parameters: PositiveTokens | None = None
    """What the publisher says it has, for example 8.03B."""
    published_active_parameters: PositiveTokens | None = None
    """What the publisher says one token visits."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        heads, kv = self.num_attention_heads, self.num_key_value_heads or self.num_attention_heads
        if heads % kv:
            raise ValueError(
                f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv})"
            )
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) is no multiple of num_attention_heads ({heads}):"
                " state head_dim"
            )
        self._check_pattern()
        if self.positional == "learned" and not self.max_position_embeddings:
            raise ValueError("learned positions need 'max_position_embeddings', the rows of their table")
        return self

    def _check_pattern(self) -> None:
        """Check a hybrid model's letters against what else is said of it."""
        pattern = self.layer_pattern
        if pattern is None:
            if self.mamba is not None:
                raise ValueError("mamba needs 'layer_pattern', which says where its layers are")
            return
        if len(pattern) != self.num_hidden_layers:
            raise ValueError(
                f"layer_pattern has {len(pattern)} letters for {self.num_hidden_layers} layers"
                " (num_hidden_layers)"
            )
        both = pattern + (self.mtp_layer_pattern if self.num_nextn_predict_layers else "")
        if "M" in both and self.mamba is None:
            raise ValueError("layer_pattern has Mamba-2 layers (M): state 'mamba'")
        if "E" in both and self.experts is None:
            raise ValueError("layer_pattern has layers with experts (E): state 'experts'")

    def to_scenario(self, name: str) -> Model:
        """Return the model as scenario data."""
        experts, latent = self.experts, self.latent_attention
        return Model(
            name=self.name or name,
            num_hidden_layers=self.num_hidden_layers,
            hidden_size=self.hidden_size,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads or self.num_attention_heads,
            head_dim=self.head_dim or self.hidden_size // self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            gated=self.gated,
            tie_word_embeddings=self.tie_word_embeddings,
            positional=self.positional,
            max_position_embeddings=self.max_position_embeddings,
            norm=self.norm,
            linear_bias=self.linear_bias,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            parallel_blocks=self.parallel_blocks,
            residual_dropout=self.linear_bias if self.residual_dropout is None else self.residual_dropout,
            sliding_window=self.sliding_window,
            sliding_window_every=self.sliding_window_every,
            attention_chunk_size=self.attention_chunk_size,
            num_nextn_predict_layers=self.num_nextn_predict_layers,
            experts=Experts(**experts.model_dump()) if experts else None,
            latent_attention=LatentAttention(**latent.model_dump()) if latent else None,
            layer_pattern=self.layer_pattern,
            mamba=Mamba(**self.mamba.model_dump()) if self.mamba else None,
            mtp_layer_pattern=self.mtp_layer_pattern,
            mtp_repeats_layer=self.mtp_repeats_layer,
            source=self.source,
        )
