"""The attention half of a layer: grouped-query or latent, fused or not, divided along tp and cp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.core_attention import core_attention
from simulator.workload.layers.elementwise import bias_gradient, bias_sum, norm, rope
from simulator.workload.layers.linear import column_parallel, replicated, row_parallel, tensor_collective
from simulator.workload.layers.operation import Exchange, Pointwise, Step, within
from simulator.workload.work import Elementwise

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.attention_mask import Mask
    from simulator.workload.layers.local_sizes import Shapes


def attention_steps(scenario: Scenario, shapes: Shapes, mask: Mask) -> list[Step]:
    """Return the steps from the residual stream to the attention output."""
    model = scenario.model
    first = norm(scenario, shapes, "attention_norm", model.hidden_size)
    steps = within("attn_norm", within("layernorm", [first]))
    if model.latent_attention is not None:
        steps += _latent_projections(scenario, shapes)
        value_dim = model.latent_attention.v_head_dim
    else:
        parts = tuple(heads * model.head_dim for heads in (shapes.heads, shapes.kv_heads, shapes.kv_heads))
        steps += column_parallel(scenario, shapes, "qkv", sum(parts), model.hidden_size, parts=parts)
        has_bias = model.linear_bias or model.qkv_bias
        steps += bias_sum(scenario, shapes, "qkv", sum(parts), has_bias=has_bias)
        steps += _joined_gradients(scenario, shapes, sum(parts))
        steps += bias_gradient(scenario, shapes, "qkv", shapes.tokens, sum(parts), has_bias=has_bias)
        if model.qk_norm:
            steps.append(_qk_norm(scenario, shapes))
        if model.positional == "rope":
            steps.append(rope(scenario, shapes, shapes.heads + shapes.kv_heads, model.head_dim))
        value_dim = model.head_dim
    steps += within("core_attn", core_attention(scenario, shapes, mask))
    proj = row_parallel(scenario, shapes, "proj", model.hidden_size, shapes.heads * value_dim)
    proj += bias_gradient(
        scenario, shapes, "proj", shapes.divided_tokens, model.hidden_size, has_bias=model.linear_bias
    )
    return [*steps, *within("attn_proj", proj)]


def _joined_gradients(scenario: Scenario, shapes: Shapes, width: int) -> list[Step]:
    """Join the gradients of query, key and value, which the forward pass split off one result."""
    if scenario.software.separate_projections or "query_key_value" in scenario.software.fused:
        return []
    size = 2.0 * shapes.tokens * width * shapes.element_bytes
    return [Pointwise(forward=(), backward=(Elementwise(name="qkv_grad_join", bytes_moved=size),))]


def _shared_key(scenario: Scenario, shapes: Shapes, width: int) -> list[Step]:
    """Gather the rotary key that all heads share, from ranks that made it for their own tokens.

    Megatron-Core multi_latent_attention.py: ``gather_from_sequence_parallel_region(k_pos_emb)``.
    """
    gather = tensor_collective(shapes, "all_gather", shapes.tokens, width, "shared_key_gather")
    if gather is None or not scenario.parallelism.sequence_parallel:
        return []
    scatter = tensor_collective(shapes, "reduce_scatter", shapes.tokens, width, "shared_key_grad_reduce")
    return [Exchange(forward=gather, backward=scatter, stream="tp")]


def _qk_norm(scenario: Scenario, shapes: Shapes) -> Step:
    rows = shapes.tokens * (shapes.heads + shapes.kv_heads)
    width = rows * scenario.model.head_dim // max(1, shapes.divided_tokens)
    return norm(scenario, shapes, "qk_norm", width)


def _latent_projections(scenario: Scenario, shapes: Shapes) -> list[Step]:
    model, mla = scenario.model, scenario.model.latent_attention
    if mla is None:
        return []
    h, heads = model.hidden_size, shapes.heads
    query = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    key_value = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    down: list[Step] = []
    up: list[Step] = []
    if mla.q_lora_rank is None:
        down += column_parallel(scenario, shapes, "q", query, h)
    else:
        down += replicated(shapes, "q_down", mla.q_lora_rank, h, dtype=shapes.gemm_dtype)
        down.append(norm(scenario, shapes, "q_norm", mla.q_lora_rank))
        up += column_parallel(scenario, shapes, "q_up", query, mla.q_lora_rank)
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    down += replicated(shapes, "kv_down", latent, h, dtype=shapes.gemm_dtype, keeps_input=False)
    down.append(norm(scenario, shapes, "kv_norm", mla.kv_lora_rank))
    up += _shared_key(scenario, shapes, mla.qk_rope_head_dim)
    up += column_parallel(scenario, shapes, "kv_up", key_value, mla.kv_lora_rank)
    up.append(rope(scenario, shapes, heads + 1, mla.qk_rope_head_dim))
    return [*down, *within("mla_up_proj", up)]
