"""Laws of recomputation, offloading and number formats, over random shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from factories import GPU, MODEL, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import stages_of
from simulator.api import simulate
from simulator.costs.kernels import kernel_s
from simulator.scenario import Experts, LatentAttention, Offload, RecomputeDetail
from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.layers.low_precision import casts
from simulator.workload.work import Gemm

if TYPE_CHECKING:
    from simulator.results.result import Result
    from simulator.scenario import Scenario

_NEAR = pytest.approx
_BLACKWELL = replace(GPU, name="test-blackwell", peak_flop_per_s={**GPU.peak_flop_per_s, "fp4": 4e15})
_EXPERTS = replace(
    MODEL,
    experts=Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=4096, num_shared_experts=1),
)
_LATENT = replace(
    _EXPERTS,
    latent_attention=LatentAttention(
        q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
    ),
)
_LOW = ("fp8-delayed", "fp8-current", "fp8-blockwise", "fp8-mx", "nvfp4")
_SELECTIONS = (
    ("core_attn",),
    ("layernorm",),
    ("mlp",),
    ("moe",),
    ("moe_act", "layernorm"),
    ("shared_experts",),
    ("mla_up_proj", "mlp"),
    ("per_op",),
    ("save_attention",),
    ("save_qkv",),
    ("save_dots",),
)


def training_of(scenario: Scenario, **fields: object) -> Scenario:
    """Return the scenario with other settings of its training section."""
    return replace(scenario, training=replace(scenario.training, **fields))  # type: ignore[arg-type]


def step_s(result: Result) -> float:
    """Return the step time."""
    return result.metrics["step_time_s"]


def peak(result: Result) -> float:
    """Return the peak memory."""
    return result.metrics["peak_memory_bytes"]


def test_compilers_leave_out_the_last_product_that_a_policy_would_run_again() -> None:
    base = training_of(
        make_scenario(), recompute="selective", recompute_detail=RecomputeDetail(modules=("save_qkv",))
    )
    whole, compiled = (
        simulate(replace(base, software=replace(base.software, recompute_stops_early=early)))
        for early in (False, True)
    )
    assert step_s(compiled) < step_s(whole)
    assert peak(compiled) == peak(whole)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Draw a layout of a dense model, of one with experts, or of one with latent attention too."""
    model = draw(st.sampled_from((MODEL, _EXPERTS, _LATENT)))
    pp = draw(st.sampled_from((1, 2, 4)))
    vpp = draw(st.sampled_from((1, 2))) if pp > 1 else 1
    return make_scenario(
        model=model,
        gpu=_BLACKWELL,
        tp=draw(st.sampled_from((1, 2, 8))),
        pp=pp,
        vpp=vpp,
        dp=draw(st.sampled_from((1, 2))),
        microbatches=4,
        sequence_parallel=draw(st.booleans()),
        seq_length=draw(st.sampled_from((2048, 4096))),
    )


@settings(max_examples=12, deadline=None)
@given(
    scenario=scenarios(),
    modules=st.sampled_from(_SELECTIONS),
    attention=st.sampled_from(("flash2", "unfused")),
)
def test_recomputing_more_takes_less_memory_and_more_time(
    scenario: Scenario, modules: tuple[str, ...], attention: str
) -> None:
    scenario = training_of(scenario, attention=attention, recompute_detail=RecomputeDetail(modules=modules))  # type: ignore[arg-type]
    none, selective, full = (
        simulate(training_of(scenario, recompute=kind)) for kind in ("none", "selective", "full")
    )
    assert step_s(none) <= step_s(selective) * (1 + 1e-12)
    assert step_s(selective) <= step_s(full) * (1 + 1e-12)

    def kept(kind: str) -> float:
        return sum(stage.saved_bytes for stage in stages_of(training_of(scenario, recompute=kind)))

    assert kept("none") >= kept("selective") * (1 - 1e-12)
    assert kept("selective") >= kept("full") * (1 - 1e-12)


@settings(max_examples=8, deadline=None)
@given(scenario=scenarios(), count=st.integers(0, 8))
def test_block_of_all_layers_is_full_and_of_none_is_none(scenario: Scenario, count: int) -> None:
    def block(layers: int) -> Result:
        detail = RecomputeDetail(method="block", num_layers=layers)
        return simulate(training_of(scenario, recompute="full", recompute_detail=detail))

    layers = max(scenario.parallelism.stage_layers)
    none, full = simulate(scenario), simulate(training_of(scenario, recompute="full"))
    assert step_s(block(0)) == step_s(none)
    assert peak(block(0)) == peak(none)
    assert step_s(block(layers)) == step_s(full)
    assert peak(block(layers)) == peak(full)
    slack = 1 + 1e-12
    assert step_s(none) <= step_s(block(count)) * slack <= step_s(full) * slack**2


@settings(max_examples=8, deadline=None)
@given(scenario=scenarios(), group=st.integers(1, 4))
def test_a_group_keeps_one_input_and_takes_the_time_of_full(scenario: Scenario, group: int) -> None:
    detail = RecomputeDetail(method="uniform", num_layers=group)
    single = training_of(scenario, recompute="full")
    grouped = training_of(single, recompute_detail=detail)
    assert step_s(simulate(grouped)) == _NEAR(step_s(simulate(single)), rel=1e-9)
    for one, many in zip(stages_of(single), stages_of(grouped), strict=True):
        inputs = [work.saved_bytes for work in many.works if work.saved_bytes and work in many.works]
        assert many.saved_bytes <= one.saved_bytes
        edges = many.has_embedding + many.has_head
        assert len(inputs) - edges <= -(-len(many.layers) // group)


def test_tensor_parallel_ranks_share_what_they_keep() -> None:
    scenario = training_of(make_scenario(tp=4, sequence_parallel=False), recompute="full")
    shared = training_of(scenario, recompute_detail=RecomputeDetail(distribute_saved=True))
    own, divided = (stages_of(it)[0].works[1].saved_bytes for it in (scenario, shared))
    assert divided == own / 4
    assert step_s(simulate(shared)) > step_s(simulate(scenario))


@settings(max_examples=8, deadline=None)
@given(
    scenario=scenarios(),
    modules=st.sampled_from((("all",), ("core_attn",), ("mlp", "moe_act"), ("attn_norm", "mlp_norm"))),
    layers=st.sampled_from((None, 0, 1, 3, 8)),
    recompute=st.sampled_from(("none", "selective", "full")),
)
def test_offloading_activations_never_takes_more_memory_and_is_free_over_an_infinite_link(
    scenario: Scenario, modules: tuple[str, ...], layers: int | None, recompute: str
) -> None:
    scenario = training_of(scenario, recompute=recompute)
    offload = Offload(modules=modules, num_layers=layers)  # type: ignore[arg-type]
    away = training_of(scenario, offload=offload)
    stays, goes = simulate(scenario), simulate(away)
    assert peak(goes) <= peak(stays) * (1 + 1e-12)
    assert step_s(goes) >= step_s(stays) * (1 - 1e-12)
    free = replace(away, cluster=replace(away.cluster, gpu=replace(_BLACKWELL, host_bytes_per_s=1e30)))
    assert step_s(simulate(free)) == _NEAR(step_s(stays), rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(
    scenario=scenarios(),
    kind=st.sampled_from(("cpu", "stream")),
    fraction=st.floats(0.1, 1.0),
    overlap=st.booleans(),
)
def test_offloading_the_optimizer_trades_memory_for_time(
    scenario: Scenario, kind: str, fraction: float, overlap: bool
) -> None:
    offload = Offload(optimizer=kind, optimizer_fraction=fraction, optimizer_overlap=overlap)  # type: ignore[arg-type]
    away = training_of(scenario, offload=offload)
    stays, goes = simulate(scenario), simulate(away)
    assert peak(goes) <= peak(stays) * (1 + 1e-12)
    assert step_s(goes) > step_s(stays)
    parts = goes.breakdown.as_dict()
    assert parts["exposed_offload"] > 0
    assert sum(parts.values()) == _NEAR(step_s(goes), rel=1e-12)
    in_order = training_of(scenario, offload=replace(offload, optimizer_overlap=False))
    assert step_s(goes) <= step_s(simulate(in_order)) * (1 + 1e-12)
    if kind == "stream":
        gpu = replace(_BLACKWELL, host_bytes_per_s=1e30)
        free = replace(away, cluster=replace(away.cluster, gpu=gpu))
        kernels = 65 * gpu.elementwise_ramp_s + 1e-9 * step_s(stays)
        assert step_s(simulate(free)) == _NEAR(step_s(stays), abs=kernels)


def test_the_host_optimizer_takes_its_closed_form() -> None:
    """One bucket: gradients out, state read and written, weights in, one after the other."""
    scenario = make_scenario(software=replace(make_scenario().software, bucket_bytes=1e15))
    away = training_of(scenario, offload=Offload(optimizer="cpu"))
    parameters = simulate(scenario).breakdown.optimizer - GPU.elementwise_ramp_s
    parameters *= GPU.memory_bytes_per_s * GPU.elementwise_fraction
    parameters /= scenario.software.optimizer_bytes_per_parameter
    there, back = 4 * parameters / GPU.host_bytes_per_s, 2 * parameters / GPU.host_bytes_per_s
    host = (24 + 4 + 2) * parameters / GPU.host_memory_bytes_per_s
    assert simulate(away).breakdown.exposed_offload == _NEAR(there + host + back, rel=1e-6)


@settings(max_examples=10, deadline=None)
@given(
    precision=st.sampled_from(_LOW),
    m=st.sampled_from((8192, 16384)),
    n=st.sampled_from((8192, 16384)),
    k=st.sampled_from((8192, 16384)),
)
def test_low_precision_is_faster_in_large_products_and_its_casts_are_counted(
    precision: str, m: int, n: int, k: int
) -> None:
    scenario = training_of(make_scenario(gpu=_BLACKWELL), precision=precision)
    sizes = local_sizes(scenario)
    high = Gemm(name="x", m=m, n=n, k=k, dtype="bf16")
    low = replace(high, dtype=sizes.gemm_dtype)
    assert not casts(sizes.quantisation, high, sizes.tp)
    kernels = [
        kernel
        for step in casts(sizes.quantisation, low, sizes.tp)
        for kernel in (*step.forward, *step.backward)
    ]  # type: ignore[union-attr,misc]
    extra = sum(kernel_s(kernel, _BLACKWELL) for kernel in kernels)
    assert extra > 2 * m * k / GPU.memory_bytes_per_s
    assert kernel_s(low, _BLACKWELL) * 3 + extra < kernel_s(high, _BLACKWELL) * 3


@settings(max_examples=10, deadline=None)
@given(scenario=scenarios(), precision=st.sampled_from(_LOW))
def test_layers_in_bf16_take_the_time_and_memory_of_bf16(scenario: Scenario, precision: str) -> None:
    low = training_of(scenario, precision=precision)
    layers = scenario.model.num_hidden_layers
    every = training_of(low, bf16_layers_at_start=layers)
    assert sum(stage.saved_bytes for stage in stages_of(every)) == sum(
        stage.saved_bytes for stage in stages_of(scenario)
    )
    some = training_of(low, bf16_layers_at_start=1, bf16_layers_at_end=1)
    works = [work for stage in stages_of(some) for work in stage.works]
    names = {id(work.forward) for work in works[1:-1]}
    assert len(names) >= 2
    assert works[1].forward is works[-2].forward


def test_delayed_scaling_on_hopper_writes_both_layouts_and_on_blackwell_one() -> None:
    """2 bytes read, 1 written for each layout."""
    gemm = Gemm(name="x", m=1024, n=2048, k=4096, dtype="fp8")
    for gpu, each in ((GPU, 4), (_BLACKWELL, 3)):
        sizes = local_sizes(training_of(make_scenario(gpu=gpu), precision="fp8-delayed"))
        (step,) = casts(sizes.quantisation, gemm, sizes.tp)
        assert [kernel.bytes_moved for kernel in step.forward] == [1024 * 4096 * each]  # type: ignore[union-attr]
    sizes = local_sizes(training_of(make_scenario(gpu=_BLACKWELL), precision="fp8-current"))
    (step,) = casts(sizes.quantisation, gemm, sizes.tp)
    assert [kernel.bytes_moved for kernel in step.forward] == [1024 * 4096 * 5]  # type: ignore[union-attr]
    sizes = local_sizes(training_of(make_scenario(gpu=_BLACKWELL), precision="fp8-mx"))
    (step,) = casts(sizes.quantisation, gemm, sizes.tp)
    assert [kernel.bytes_moved for kernel in step.forward] == [1024 * 4096 * (2 + 2 * (1 + 1 / 32))]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("precision", "low_params", "each"),
    [("bf16", False, 2), ("fp8-delayed", False, 4), ("fp8-delayed", True, 2)],
)
def test_weights_take_the_bytes_of_their_copies(precision: str, low_params: bool, each: float) -> None:
    """bf16; bf16 and two fp8 layouts; two fp8 layouts."""
    model = replace(MODEL, vocab_size=128)
    scenario = make_scenario(model=model)
    scenario = training_of(scenario, precision=precision, low_precision_params=low_params)
    weights = simulate(scenario).memory.ranks[0].weights
    reference = simulate(make_scenario(model=model)).memory.ranks[0].weights
    assert weights == _NEAR(reference * each / 2, rel=2e-3)


def test_moments_in_16_bits_take_less_memory_and_time() -> None:
    scenario = make_scenario()
    small = training_of(scenario, moment_dtype="bf16")
    full, half = simulate(scenario), simulate(small)
    assert half.memory.ranks[0].optimizer == _NEAR(full.memory.ranks[0].optimizer * 8 / 12)
    assert half.breakdown.optimizer < full.breakdown.optimizer


def test_activations_of_a_layer_are_those_of_korthikanti() -> None:
    """arXiv:2205.05198, Table 2: sbh (34 + 5as/h) without parallelism, 2sbh when recomputed in full."""
    model = replace(
        MODEL,
        num_key_value_heads=32,
        intermediate_size=4 * MODEL.hidden_size,
        gated=False,
        linear_bias=True,
        residual_dropout=True,
        norm="layernorm",
        positional="learned",
        max_position_embeddings=4096,
    )
    scenario = training_of(make_scenario(model=model, seq_length=2048), attention="unfused")
    s, h, a = 2048, model.hidden_size, model.num_attention_heads
    work = stages_of(scenario)[0].works[1]
    assert work.saved_bytes == _NEAR(s * h * (34 + 5 * a * s / h))
    selective = training_of(scenario, recompute="selective")
    assert stages_of(selective)[0].works[1].saved_bytes == _NEAR(s * h * 34)
    full = training_of(scenario, recompute="full")
    assert stages_of(full)[0].works[1].saved_bytes == _NEAR(s * h * 2)
    parallel = training_of(make_scenario(model=model, seq_length=2048, tp=8), attention="unfused")
    assert stages_of(parallel)[0].works[1].saved_bytes == _NEAR(s * h / 8 * (34 + 5 * a * s / h))
    unshared = training_of(
        make_scenario(model=model, seq_length=2048, tp=8, sequence_parallel=False), attention="unfused"
    )
    assert stages_of(unshared)[0].works[1].saved_bytes == _NEAR(s * h * (10 + 24 / 8 + 5 * a * s / h / 8))
