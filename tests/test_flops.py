"""FLOPs per token, beside published ratios and closed forms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_models import LLAMA3_405B, model, training

from simulator.results.flops import Convention, flops_per_token, hardware_flops_per_token
from simulator.scenario import Experts, LatentAttention, Model

GPT3 = model(96, 12288, 96, 96, 128, 49152, 51200, gated=False, tie_word_embeddings=True)

MIXTRAL = model(
    32, 4096, 32, 8, 128, 14336, 32000,
    experts=Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=14336),
)  # fmt: skip

QWEN3_235B = model(
    94, 4096, 64, 4, 128, 0, 151936,
    experts=Experts(num_experts=128, num_experts_per_tok=8, moe_intermediate_size=1536),
)  # fmt: skip

DEEPSEEK_V3 = model(
    61, 7168, 128, 128, 128, 18432, 129280,
    experts=Experts(
        num_experts=256,
        num_experts_per_tok=8,
        moe_intermediate_size=2048,
        num_shared_experts=1,
        first_k_dense_replace=3,
    ),
    latent_attention=LatentAttention(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "seq_length", "convention", "gflops", "tolerance"),
    [
        # TFLOP/s over tokens/s where a source states both (Megatron-Bridge, MaxText, llm-foundry ...).
        (LLAMA3_405B, 8192, "causal", 2524.81, 1e-3),
        (LLAMA3_405B, 8192, "full", 2625.43, 1e-5),
        (model(80, 8192, 64, 8, 128, 28672, 128256), 8192, "full", 481.43, 1e-4),
        (model(32, 4096, 32, 8, 128, 14336, 128256), 8192, "full", 57.91, 1e-4),
        (MIXTRAL, 4096, "full", 82.93, 1e-4),
        (QWEN3_235B, 4096, "causal", 148.03, 3e-3),
        (DEEPSEEK_V3, 4096, "causal", 250.45, 1e-4),
        (DEEPSEEK_V3, 8192, "causal", 281.15, 1e-4),
        (replace(DEEPSEEK_V3, num_nextn_predict_layers=1), 4096, "causal", 260.0, 3e-3),
        (
            model(48, 7168, 56, 56, 128, 28672, 50368, gated=False, tie_word_embeddings=True),
            2048,
            "palm",
            188.18,
            1e-3,
        ),
    ],
)
def test_flops_per_token_agree_with_published_ratios(
    subject: Model, seq_length: int, convention: Convention, gflops: float, tolerance: float
) -> None:
    flops = flops_per_token(subject, training(seq_length), convention)
    assert flops / 1e9 == pytest.approx(gflops, rel=tolerance)


@given(l=st.integers(1, 128), a=st.integers(1, 128), d=st.sampled_from([64, 96, 128]), s=st.integers(1, 32))
@settings(max_examples=50, deadline=None)
def test_gpt_flops_follow_equation_3_of_narayanan(l: int, a: int, d: int, s: int) -> None:
    h, s, V = a * d, 128 * s, 51200
    gpt = model(l, h, a, a, d, 4 * h, V, gated=False)
    published = 96 * s * l * h**2 * (1 + s / (6 * h) + V / (16 * l * h))
    request = training(s, recompute="full", attention="unfused")
    assert flops_per_token(gpt, request, "recompute") * s == pytest.approx(published, rel=1e-12)
    assert hardware_flops_per_token(gpt, request) * s == pytest.approx(published, rel=1e-12)


def test_windows_and_recompute_count_what_they_leave_and_add() -> None:
    s, attention = 8192, 12 * 96 * 12288 * 8192
    windowed = replace(GPT3, sliding_window=4096)
    assert flops_per_token(GPT3, training(s), "full") - flops_per_token(windowed, training(s), "full") == (
        pytest.approx(attention / 2)
    )
    halves = flops_per_token(GPT3, training(s)) - flops_per_token(windowed, training(s))
    assert halves == pytest.approx(attention * (1 / 2 - 3 / 8))
    alternating = replace(windowed, sliding_window_every=2)
    assert flops_per_token(GPT3, training(s)) - flops_per_token(alternating, training(s)) == (
        pytest.approx(halves / 2)
    )
    for name, extra in (("selective", attention / 3), ("full", attention / 3 + 24 * 96 * 12288**2)):
        with_recompute = flops_per_token(GPT3, training(s, name), "recompute")
        assert with_recompute - flops_per_token(GPT3, training(s), "full") == pytest.approx(extra)
        assert flops_per_token(GPT3, training(s, name)) == flops_per_token(GPT3, training(s))
    fused, unfused = (hardware_flops_per_token(GPT3, training(s, attention=k)) for k in ("flash2", "unfused"))
    assert unfused - fused == pytest.approx(attention - attention / 2 * 3.5 / 3)
