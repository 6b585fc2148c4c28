"""Scenarios made in code, for tests that need no file."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from simulator.scenario import (
    AttentionEfficiency,
    AttentionPass,
    Cluster,
    GemmEfficiency,
    Gpu,
    Model,
    Network,
    Overlap,
    Parallelism,
    Scenario,
    Software,
    Tier,
    Training,
)

_PASS = AttentionPass(fraction=0.6, softmax_width=30, overhead_length=200, edge_length=60, block_rows=128)
GPU = Gpu(
    name="test-gpu",
    peak_flop_per_s={"bf16": 989e12, "fp16": 989e12, "fp8": 1979e12, "fp32": 67e12},
    memory_bytes=80e9,
    memory_bytes_per_s=3.35e12,
    multiprocessors=132,
    scale_up_bytes_per_s=450e9,
    scale_up_domain=8,
    scale_up_latency_s=1e-6,
    has_in_network_reduction=True,
    gpus_per_node=8,
    network_bytes_per_s=50e9,
    tdp_watts=700.0,
    speed_spread=0.0,
    gemm={
        "bf16": GemmEfficiency(
            sustained_fraction=0.72,
            memory_fraction=0.85,
            exposed_store_fraction=0.3,
            ramp_s=4e-6,
            smoothness=4.0,
            tile_efficiency=(1.0, 0.95, 0.85, 0.6),
        )
    },
    attention={"flash2": AttentionEfficiency(forward=_PASS, backward=_PASS)},
    elementwise_fraction=0.88,
    elementwise_ramp_s=2e-6,
)
NETWORK = Network(
    name="test-network",
    kind="fat-tree",
    bytes_per_s_per_gpu=50e9,
    efficiency=0.95,
    tiers=(Tier(name="spine", gpus=0, oversubscription=1.0, latency_s=1e-6),),
)
MODEL = Model(
    name="test-model",
    num_hidden_layers=8,
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=32000,
)
OVERLAP = Overlap(grad_reduce=True, param_gather=True, p2p=True, tp=False)
SOFTWARE = Software(
    name="test-stack",
    attention="flash2",
    fused=frozenset(
        {
            "norm",
            "bias_activation",
            "rope",
            "dropout_add",
            "softmax",
            "cross_entropy",
            "gradient_accumulation",
        }
    ),
    kernel_launch_s=0.0,
    overlap=OVERLAP,
    wgrad_overlaps_tp=True,
    bucket_bytes=1e8,
    grad_dtype="fp32",
    step_overhead_s=0.0,
    optimizer_bytes_per_parameter=30.0,
    framework_bytes=2e9,
    memory_fragmentation=0.05,
)


def make_scenario(
    *,
    model: Model = MODEL,
    gpu: Gpu = GPU,
    network: Network = NETWORK,
    software: Software = SOFTWARE,
    tp: int = 1,
    pp: int = 1,
    vpp: int = 1,
    cp: int = 1,
    ep: int = 1,
    dp: int = 1,
    microbatches: int = 4,
    sequence_parallel: bool | None = None,
    sharding: str = "none",
    recompute: str = "none",
    seq_length: int = 4096,
    overlap: Overlap = OVERLAP,
    shard_size: int | None = None,
    reshard_after_forward: bool = True,
    prefetch: int = 1,
    reduce_every_microbatch: bool = False,
    grad_dtype: Literal["fp32", "bf16"] = "fp32",
) -> Scenario:
    """Return a scenario of the given degrees, layers spread evenly and remainders on the first stages."""
    gpus = tp * pp * cp * dp
    even, rest = divmod(model.num_hidden_layers, pp * vpp)
    parallelism = Parallelism(
        tp=tp,
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=ep,
        dp=dp,
        sequence_parallel=tp > 1 if sequence_parallel is None else sequence_parallel,
        schedule="1f1b" if vpp == 1 else "interleaved",
        sharding=sharding,  # type: ignore[arg-type]
        shard_size=shard_size,
        reshard_after_forward=reshard_after_forward,
        prefetch=prefetch,
        reduce_every_microbatch=reduce_every_microbatch,
        stage_layers=tuple(even + (stage < rest) for stage in range(pp * vpp)),
    )
    return Scenario(
        name="test",
        cluster=Cluster(gpu=gpu, gpus=gpus, gpus_per_node=8, scale_up_domain=8, network=network),
        model=model,
        parallelism=parallelism,
        training=Training(
            seq_length=seq_length,
            micro_batch_size=1,
            global_batch_size=microbatches * dp,
            precision="bf16",
            recompute=recompute,  # type: ignore[arg-type]
            attention="flash2",
            grad_dtype=grad_dtype,
            overlap=overlap,
        ),
        software=replace(software, overlap=overlap),
    )
