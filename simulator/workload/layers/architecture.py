"""What layers are in a model, and what of their work a software stack fuses, copies or keeps apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario import Experts, LatentAttention, Mamba, Model, Software


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What all layers of a model have in common, undivided; see ``scenario.Model``.

    Attributes:
        hidden_size: Width of the residual stream.
        head_dim: Width of one attention head.
        gated: Whether the feed-forward block has a gate.
        linear_bias: Whether projections carry a bias.
        qkv_bias: Whether the query, key and value projections carry one.
        qk_norm: Whether queries and keys are normalised per head.
        has_rope: Whether queries and keys are rotated by their positions.
        parallel_blocks: Whether attention and feed-forward read the same input.
        residual_dropout: Whether what is added to the residual stream goes through dropout.
        latent_attention: Multi-head latent attention, or None.
        mamba: Mamba-2 layers, or None.
        experts: The mixture-of-experts part, or None.
    """

    hidden_size: int
    head_dim: int
    gated: bool
    linear_bias: bool
    qkv_bias: bool
    qk_norm: bool
    has_rope: bool
    parallel_blocks: bool
    residual_dropout: bool
    latent_attention: LatentAttention | None
    mamba: Mamba | None
    experts: Experts | None

    @staticmethod
    @lru_cache(maxsize=64)
    def of(model: Model) -> Architecture:
        """Return what the layers of a model have in common."""
        return Architecture(
            hidden_size=model.hidden_size,
            head_dim=model.head_dim,
            gated=model.gated,
            linear_bias=model.linear_bias,
            qkv_bias=model.linear_bias or model.qkv_bias,
            qk_norm=model.qk_norm,
            has_rope=model.positional == "rope",
            parallel_blocks=model.parallel_blocks,
            residual_dropout=model.residual_dropout,
            latent_attention=model.latent_attention,
            mamba=model.mamba,
            experts=model.experts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """Which kernels a software stack runs for the operations of a layer; see ``scenario.Software``.

    Attributes:
        fused: Operations that run as one kernel.
        separate_projections: Whether query, key and value projections, and the gate's, are matrices of their
            own.
        gate_apart: Whether only the gate and the up projection are.
        keeps_gathered_input: Whether the gathered input of a column-parallel layer is kept for its weight
            gradient instead of being gathered again.
        sorts_copies: Whether copies of tokens for their experts are made, sorted and added up by passes of
            their own.
    """

    fused: frozenset[str]
    separate_projections: bool
    gate_apart: bool
    keeps_gathered_input: bool
    sorts_copies: bool

    @staticmethod
    @lru_cache(maxsize=64)
    def of(software: Software) -> KernelOptions:
        """Return the kernels of a software stack."""
        return KernelOptions(
            fused=software.fused,
            separate_projections=software.separate_projections,
            gate_apart=software.gate_apart,
            keeps_gathered_input=software.keeps_gathered_input,
            sorts_copies=software.sorts_copies,
        )

    @property
    def has_separate_gate(self) -> bool:
        """Whether gate and up projection are matrices of their own."""
        return self.separate_projections or self.gate_apart
