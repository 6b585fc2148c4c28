"""The attention half of a layer: grouped-query or latent, fused or not, divided along tp and cp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.core_attention import core_attention, rank_heads
from simulator.workload.layers.elementwise import bias_gradient, bias_sum, norm, rope
from simulator.workload.layers.linear import column_parallel, replicated, row_parallel, tensor_collective
from simulator.workload.layers.operation import Exchange, Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.workload.layers.architecture import Architecture, KernelOptions
    from simulator.workload.layers.attention_mask import Mask
    from simulator.workload.layers.core_attention import AttentionOptions
    from simulator.workload.layers.local_sizes import LocalSizes


def attention_steps(
    sizes: LocalSizes, model: Architecture, kernels: KernelOptions, options: AttentionOptions, mask: Mask
) -> list[Step]:
    """Return the steps from the residual stream to the attention output."""
    first = norm(sizes, kernels, "attention_norm", model.hidden_size)
    steps = within("attn_norm", within("layernorm", [first]))
    if model.latent_attention is not None:
        steps += _latent_projections(sizes, model, kernels)
        value_dim = model.latent_attention.v_head_dim
    else:
        parts = tuple(heads * model.head_dim for heads in (sizes.heads, sizes.kv_heads, sizes.kv_heads))
        steps += column_parallel(sizes, kernels, "qkv", sum(parts), model.hidden_size, parts=parts)
        steps += bias_sum(sizes, kernels, "qkv", sum(parts), has_bias=model.qkv_bias)
        steps += _joined_gradients(sizes, kernels, sum(parts))
        steps += bias_gradient(sizes, kernels, "qkv", sizes.tokens, sum(parts), has_bias=model.qkv_bias)
        if model.qk_norm:
            steps.append(_qk_norm(sizes, kernels, model.head_dim))
        if model.has_rope:
            steps.append(rope(sizes, kernels, sizes.heads + sizes.kv_heads, model.head_dim))
        value_dim = model.head_dim
    heads = rank_heads(sizes, model)
    core = core_attention(sizes, heads, options, mask, kernels.fused, has_dropout=model.linear_bias)
    steps += within("core_attn", core)
    proj = row_parallel(sizes, "proj", model.hidden_size, sizes.heads * value_dim)
    proj += bias_gradient(
        sizes, kernels, "proj", sizes.divided_tokens, model.hidden_size, has_bias=model.linear_bias
    )
    return [*steps, *within("attn_proj", proj)]


def _joined_gradients(sizes: LocalSizes, kernels: KernelOptions, width: int) -> list[Step]:
    """Join the gradients of query, key and value, which the forward pass split off one result."""
    if kernels.separate_projections or "query_key_value" in kernels.fused:
        return []
    size = 2.0 * sizes.tokens * width * sizes.element_bytes
    return [Pointwise(forward=(), backward=(Elementwise(name="qkv_grad_join", bytes_moved=size),))]


def _shared_key(sizes: LocalSizes, width: int) -> list[Step]:
    """Gather the rotary key that all heads share, from ranks that made it for their own tokens.

    Megatron-Core multi_latent_attention.py: ``gather_from_sequence_parallel_region(k_pos_emb)``.
    """
    gather = tensor_collective(sizes, "all_gather", sizes.tokens, width, "shared_key_gather")
    if gather is None or not sizes.sequence_parallel:
        return []
    scatter = tensor_collective(sizes, "reduce_scatter", sizes.tokens, width, "shared_key_grad_reduce")
    return [Exchange(forward=gather, backward=scatter, stream="tp")]


def _qk_norm(sizes: LocalSizes, kernels: KernelOptions, head_dim: int) -> Step:
    rows = sizes.tokens * (sizes.heads + sizes.kv_heads)
    width = rows * head_dim // max(1, sizes.divided_tokens)
    return norm(sizes, kernels, "qk_norm", width)


def _latent_projections(sizes: LocalSizes, model: Architecture, kernels: KernelOptions) -> list[Step]:
    mla = model.latent_attention
    if mla is None:
        return []
    h, heads = model.hidden_size, sizes.heads
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    key_value = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    down: list[Step] = []
    up: list[Step] = []
    if mla.q_lora_rank is None:
        down += column_parallel(sizes, kernels, "q", query, h)
    else:
        down += replicated(sizes, "q_down", mla.q_lora_rank, h, dtype=sizes.gemm_dtype)
        down.append(norm(sizes, kernels, "q_norm", mla.q_lora_rank))
        up += column_parallel(sizes, kernels, "q_up", query, mla.q_lora_rank)
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    down += replicated(sizes, "kv_down", latent, h, dtype=sizes.gemm_dtype, keeps_input=False)
    down.append(norm(sizes, kernels, "kv_norm", mla.kv_lora_rank))
    up += _shared_key(sizes, mla.qk_rope_head_dim)
    up += column_parallel(sizes, kernels, "kv_up", key_value, mla.kv_lora_rank)
    up.append(rope(sizes, kernels, heads + 1, mla.qk_rope_head_dim))
    return [*down, *within("mla_up_proj", up)]
