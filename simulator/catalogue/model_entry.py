"""Schema of a model, in Hugging Face's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from simulator.catalogue.derive import copied, derived
from simulator.catalogue.entry import Entry
from simulator.documents import Also, PositiveCount, PositiveTokens, Strict
from simulator.scenario import Experts, Model


@derived(Experts, sourced=False)
class ExpertsEntry(Strict):
    """The mixture-of-experts part."""

    @model_validator(mode="after")
    def _enough_experts(self) -> Self:
        _check_experts(copied(self, Experts))
        return self


def _check_experts(experts: Experts) -> None:
    """Check that a token finds as many experts as it visits."""
    count, visited, groups = experts.num_experts, experts.num_experts_per_tok, experts.n_group
    if visited > count:
        raise ValueError(
            f"a token cannot visit {visited} of {count} experts (num_experts_per_tok > num_experts)"
        )
    if count % groups or experts.topk_group > groups:
        raise ValueError(
            f"{count} experts do not form {groups} equal groups of which a token visits"
            f" {experts.topk_group} (n_group, topk_group)"
        )
    if experts.topk_group * count // groups < visited:
        raise ValueError(
            f"{experts.topk_group} groups of {count // groups} experts are fewer than the"
            f" {visited} that a token visits (topk_group)"
        )


@derived(Model, sourced=False)
class ModelEntry(Entry):
    """A decoder-only transformer: inline in a scenario, the first five sizes are enough."""

    entry_kind: ClassVar[str] = "model"

    num_key_value_heads: PositiveCount | None = None
    """Key and value heads; as many as query heads unless stated."""
    head_dim: PositiveCount | None = None
    """Width of one head; hidden_size / num_attention_heads unless stated."""
    residual_dropout: bool | None = None
    """Whether what is added to the residual stream goes through dropout; default: as linear_bias (GPT-3)."""
    experts: ExpertsEntry | None = None
    """The mixture-of-experts part."""
    layer_pattern: Annotated[str | None, Field(pattern=r"^[M*E-]+$"), Also("hybrid_override_pattern")] = None
    """One letter per layer of a hybrid model: M Mamba-2, * attention, - dense feed-forward, E experts."""
    mtp_layer_pattern: Annotated[str, Field(pattern=r"^[M*E-]+$"), Also("mtp_hybrid_override_pattern")] = "*E"
    """Blocks of one multi-token-prediction layer of a hybrid model."""
    source: str = Field(default="stated without a source", min_length=1)
    """Where the numbers were read."""
    published_parameters: PositiveTokens | None = None
    """What the publisher says it has, for example 8.03B."""
    published_active_parameters: PositiveTokens | None = None
    """What the publisher says one token visits."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        model = self.to_scenario("")
        heads, kv = model.num_attention_heads, model.num_key_value_heads
        if heads % kv:
            raise ValueError(
                f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({kv})"
            )
        if self.head_dim is None and model.hidden_size % heads:
            raise ValueError(
                f"hidden_size ({model.hidden_size}) is no multiple of num_attention_heads ({heads}):"
                " state head_dim"
            )
        _check_pattern(model)
        if model.positional == "learned" and not model.max_position_embeddings:
            raise ValueError("learned positions need 'max_position_embeddings', the rows of their table")
        return self

    def to_scenario(self, name: str) -> Model:
        """Return the model as scenario data."""
        model = copied(self, Model, name=self.name or name)
        heads = model.num_attention_heads
        return replace(
            model,
            num_key_value_heads=self.num_key_value_heads or heads,
            head_dim=self.head_dim or model.hidden_size // heads,
            residual_dropout=model.linear_bias if self.residual_dropout is None else self.residual_dropout,
        )


def _check_pattern(model: Model) -> None:
    """Check a hybrid model's letters against what else is said of it."""
    pattern = model.layer_pattern
    if pattern is None:
        if model.mamba is not None:
            raise ValueError("mamba needs 'layer_pattern', which says where its layers are")
        return
    if len(pattern) != model.num_hidden_layers:
        raise ValueError(
            f"layer_pattern has {len(pattern)} letters for {model.num_hidden_layers} layers"
            " (num_hidden_layers)"
        )
    both = pattern + (model.mtp_layer_pattern if model.num_nextn_predict_layers else "")
    if "M" in both and model.mamba is None:
        raise ValueError("layer_pattern has Mamba-2 layers (M): state 'mamba'")
    if "E" in both and model.experts is None:
        raise ValueError("layer_pattern has layers with experts (E): state 'experts'")
