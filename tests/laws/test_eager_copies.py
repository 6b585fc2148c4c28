"""Copies, metrics and bias gradients that eager stacks run as kernels of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.layers.low_precision import casts
from simulator.workload.layers.operation import Pointwise
from simulator.workload.work import Elementwise, Gemm
from tests.factories import GPU, MODEL, make_scenario
from tests.laws.layers import head, layer, layer_flops, ops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario
    from simulator.workload.program import Block

TOKENS = make_scenario().training.seq_length
HIDDEN = MODEL.hidden_size


def _moved(blocks: Sequence[Block]) -> list[float]:
    """Return the bytes that each block's memory-bound kernels move."""
    return [
        sum(work.bytes_moved for work in ops(block.program) if isinstance(work, Elementwise))
        for block in blocks
    ]


def _with(scenario: Scenario, **habits: object) -> Scenario:
    return replace(scenario, software=replace(scenario.software, **habits))  # type: ignore[arg-type]


@given(metrics=st.integers(1, 4))
def test_metrics_cast_the_logits_and_take_their_log_soft_max(metrics: int) -> None:
    plain, counted = (_with(make_scenario(), loss_metrics=number) for number in (0, metrics))
    vocabulary = -(-MODEL.vocab_size // 128) * 128
    before, after = (_moved((head(each).forward, head(each).backward)) for each in (plain, counted))
    assert after[0] - before[0] == pytest.approx(metrics * TOKENS * vocabulary * ((2 + 4) + (4 + 4)))
    assert after[1] == before[1]


def test_padding_is_copied_around_the_kernels_that_need_it() -> None:
    """Each of queries, keys and values is read and written, and cleared before a scatter."""
    kernel = make_scenario().training.attention
    plain = make_scenario()
    other = _with(plain, unpads_attention=frozenset({"another"}))
    unpadded = _with(plain, unpads_attention=frozenset({kernel}))
    widths = MODEL.head_dim * (MODEL.num_attention_heads + 2 * MODEL.num_key_value_heads)
    operands, result = 2 * TOKENS * widths, 2 * TOKENS * MODEL.head_dim * MODEL.num_attention_heads
    before, after = _moved(layer(plain)), _moved(layer(unpadded))
    assert _moved(layer(other)) == before
    assert after[0] - before[0] == pytest.approx(2 * operands + 3 * result)
    assert after[1] - before[1] == pytest.approx(3 * operands + 2 * result)
    assert layer_flops(unpadded) == layer_flops(plain)


def test_bias_gradients_read_each_output_gradient_once_unless_a_gemm_sums_it() -> None:
    biased = make_scenario(model=replace(MODEL, linear_bias=True))
    fused = _with(biased, fused=biased.software.fused | {"bias_gradient"})
    apart = _with(biased, fused=biased.software.fused - {"bias_gradient"})
    projections = MODEL.head_dim * (MODEL.num_attention_heads + 2 * MODEL.num_key_value_heads)
    widths = projections + 2 * HIDDEN + MODEL.intermediate_size * (2 if MODEL.gated else 1)
    (there, back), (fused_there, fused_back) = _moved(layer(apart)), _moved(layer(fused))
    assert there - fused_there == pytest.approx(4 * TOKENS * projections)
    assert back - fused_back == pytest.approx(2 * TOKENS * widths)


@pytest.mark.parametrize(("low_params", "fuses"), [(False, False), (True, False), (True, True)])
def test_torchao_casts_forward_and_transposes_backward(low_params: bool, fuses: bool) -> None:
    """Tensor-wise fp8: read for the largest value, read, write; copies of both operands and the weight."""
    scenario = make_scenario(gpu=replace(GPU, peak_flop_per_s={**GPU.peak_flop_per_s, "fp8": 2e15}))
    training = replace(scenario.training, precision="fp8-current", low_precision_params=low_params)
    fused = scenario.software.fused | ({"amax"} if fuses else set())
    scenario = _with(replace(scenario, training=training), casts_every_pass=True, fused=fused)
    m, n, k = 1024, 2048, 4096
    sizes, gemm = local_sizes(scenario), Gemm(name="product", m=m, n=n, k=k, dtype="fp8")
    (step,) = casts(sizes.quantisation, gemm, sizes.tp)
    assert isinstance(step, Pointwise)
    reads = 2 if fuses else 4
    there, back = (sum(kernel.bytes_moved for kernel in way) for way in (step.forward, step.backward))
    assert there == m * k * (reads + 1) + (0 if low_params else k * n * (4 + 1))
    assert back == m * n * (reads + 1) + 2 * (m * k + m * n + k * n)


def test_row_wise_scaling_converts_both_operands_of_each_product_from_16_bits() -> None:
    """Six casts; those along the outer dimension read twice. Operands travel and are kept in 16 bits."""
    scenario = make_scenario(gpu=replace(GPU, peak_flop_per_s={**GPU.peak_flop_per_s, "fp8": 2e15}))
    scenario = _with(
        replace(scenario, training=replace(scenario.training, precision="fp8-rowwise")), casts_every_pass=True
    )
    sizes, (m, n, k) = local_sizes(scenario), (1024, 2048, 4096)
    gemm = Gemm(name="product", m=m, n=n, k=k, dtype="fp8")
    (step,) = casts(sizes.quantisation, gemm, sizes.tp, input_share=0.25)
    assert isinstance(step, Pointwise)
    there, back = (sum(kernel.bytes_moved for kernel in way) for way in (step.forward, step.backward))
    assert there == (2 + 1) * (m * k + k * n)
    assert back == (2 + 1) * m * n + (4 + 1) * (k * n + m * n + m * k)
    assert sizes.operand_bytes == 2


def test_repeated_keys_and_values_are_copied_once_for_each_query_head() -> None:
    plain = make_scenario()
    repeated = _with(plain, repeats_key_values=True)
    shared = MODEL.num_attention_heads // MODEL.num_key_value_heads
    copied = (1 + shared) * 2 * TOKENS * 2 * MODEL.head_dim * MODEL.num_key_value_heads
    for before, after in zip(_moved(layer(plain)), _moved(layer(repeated)), strict=True):
        assert after - before == pytest.approx(copied)
    assert layer_flops(repeated) == layer_flops(plain)
