"""One example for each field of a scenario file: a set-up, and a value of the field that changes its result.

Whoever adds a field adds a line. ``DESCRIBES`` lists the few that say something about the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping

Settings = Mapping[str, object]

DENSE = {
    "num_hidden_layers": 4,
    "hidden_size": 1024,
    "num_attention_heads": 8,
    "intermediate_size": 4096,
    "vocab_size": 32000,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 1024}
MOE = {**DENSE, "experts": EXPERTS}
LATENT = {
    **DENSE,
    "latent_attention": {
        "q_lora_rank": 256,
        "kv_lora_rank": 128,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "v_head_dim": 64,
    },
}
MAMBA = {
    **DENSE,
    "layer_pattern": "M*M-",
    "mamba": {"num_heads": 32, "head_dim": 64, "state_size": 128, "n_groups": 8},
}
HYBRID = {**MAMBA, "layer_pattern": "M*ME", "experts": EXPERTS, "num_nextn_predict_layers": 2}
BASE: Settings = {
    "cluster.gpu": {"like": "h100-80gb-sxm"},
    "cluster.gpus": 16,
    "cluster.network": {"bandwidth_per_gpu": "400 Gb/s"},
    "model": DENSE,
    "training.seq_length": 2048,
    "training.global_batch_size": 32,
    "software": {"like": "megatron-core"},
}
TWO_TIERS = [{"name": "leaf", "gpus": 32}, {"name": "spine", "gpus": 0, "oversubscription": 2}]
TPU: Settings = {
    "cluster.gpu": {"like": "tpu-v5e"},
    "cluster.gpus": 512,
    "cluster.network": "tpu-v5e-pod",
    "training.global_batch_size": 512,
    "software": {"like": "maxtext"},
}
TORUS = {"kind": "torus", "torus": [16, 16], "bandwidth_per_gpu": "25 Gb/s"}
POOLS = [{"gpu": "h100-80gb-sxm", "gpus": 8}, {"gpu": "a100-80gb-sxm", "gpus": 8}]
MIXED: Settings = {
    "cluster": {"pools": POOLS},
    "parallelism.pp": 2,
    "training.tokens": "1T",
}
ALONE: Settings = {"cluster.gpus": 1, "cluster.network": None, "training.global_batch_size": 2}
PIPELINE: Settings = {"parallelism.pp": 2}
LOOPED: Settings = {"parallelism.pp": 2, "parallelism.vpp": 2}
ZERO3: Settings = {"parallelism.sharding": "zero3"}
SPLIT: Settings = {"parallelism.tp": 8}
CONTEXT: Settings = {"parallelism.cp": 4, "training.seq_length": 16384}
ROUTED: Settings = {"model": MOE, "parallelism.ep": 8}
MESH: Settings = {"cluster.gpu": {"like": "mi300x"}, "parallelism.tp": 2}
FP8: Settings = {"training.precision": "fp8"}
FULL: Settings = {"training.recompute": "full"}
SELECTIVE: Settings = {"training.recompute": "selective"}
OFFLOADED: Settings = {"training.offload.activations": "all", "training.seq_length": 8192}
HOST: Settings = {"training.offload.optimizer": "stream", **ALONE}
LINKS: Settings = {
    "cluster.gpu.collectives": {"ring_fraction": 0.8, "reduction_fraction": 0.7, "exchange_fraction": 0.7}
}
RELIEVED: Settings = {"cluster.gpu.power": {"headroom": 0.11, "idle": 0.27, "memory": 0.09}}
SLOW_NETWORK: Settings = {"cluster.network": {"bandwidth_per_gpu": "5 Gb/s"}}
PRICED: Settings = {"training.tokens": "1T"}

EXAMPLES: Mapping[str, tuple[Settings, object]] = {
    "name": ({}, "another name"),
    "cluster.gpu": ({}, "a100-80gb-sxm"),
    "cluster.gpu.name": ({}, "another-gpu"),
    "cluster.gpu.like": ({}, "a100-80gb-sxm"),
    "cluster.gpu.peak": ({}, {"bf16": "500 TFLOP/s"}),
    "cluster.gpu.matrix_speed": ({}, 0.8),
    "cluster.gpu.memory.capacity": ({}, "40 GB"),
    "cluster.gpu.memory.bandwidth": ({}, "2 TB/s"),
    "cluster.gpu.scale_up.bandwidth": (SPLIT, "200 GB/s"),
    "cluster.gpu.scale_up.domain": (SPLIT, 4),
    "cluster.gpu.scale_up.latency": (SPLIT, "5 us"),
    "cluster.gpu.scale_up.partner_bandwidth": (MESH, "400 GB/s"),
    "cluster.gpu.scale_up.topology": ({"parallelism.tp": 2}, "mesh"),
    "cluster.gpu.scale_up.in_network_reduction": (
        {"parallelism.tp": 8, "parallelism.sequence_parallel": False},
        False,
    ),
    "cluster.gpu.network_bandwidth": ({"cluster.network": None}, "200 Gb/s"),
    "cluster.gpu.multiprocessors": ({}, 100),
    "cluster.gpu.matrix_unit": ({}, 256),
    "cluster.gpu.gpus_per_node": ({"parallelism.sharding": "hybrid"}, 4),
    "cluster.gpu.speed_spread": ({}, 0.05),
    "cluster.gpu.power.headroom": ({**SPLIT, **RELIEVED}, 0.01),
    "cluster.gpu.power.idle": ({**SPLIT, **RELIEVED}, 0.01),
    "cluster.gpu.power.memory": (RELIEVED, 0.01),
    "cluster.gpu.host.bandwidth": (OFFLOADED, "5 GB/s"),
    "cluster.gpu.host.memory_bandwidth": (
        {"training.offload.optimizer": "cpu", **ALONE},
        "20 GB/s",
    ),
    "cluster.gpu.collectives.ring_fraction": ({**SPLIT, **LINKS}, 0.3),
    "cluster.gpu.collectives.reduction_fraction": (
        {**LINKS, "parallelism.tp": 8, "parallelism.sequence_parallel": False, "training.seq_length": 16384},
        0.3,
    ),
    "cluster.gpu.collectives.exchange_fraction": ({**ROUTED, **LINKS}, 0.2),
    "cluster.gpu.kernels_like": ({"cluster.gpu": {"like": "h100-94gb-nvl"}}, "a100-80gb-sxm"),
    "cluster.gpus": ({}, 8),
    "cluster.gpus_per_node": ({"parallelism.sharding": "hybrid"}, 4),
    "cluster.scale_up_domain": (SPLIT, 4),
    "cluster.num_slices": (TPU, 4),
    "cluster.network": ({}, "roce-100g"),
    "cluster.network.like": ({"cluster.network": {"like": "roce-400g"}}, "roce-100g"),
    "cluster.network.bandwidth_per_gpu": ({}, "50 Gb/s"),
    "cluster.network.efficiency": ({}, 0.4),
    "cluster.network.tiers.0.gpus": (
        {"cluster.gpus": 64, "cluster.network.tiers": TWO_TIERS, "training.global_batch_size": 64},
        16,
    ),
    "cluster.network.tiers.0.oversubscription": (
        {"cluster.gpus": 64, "cluster.network.tiers": TWO_TIERS, "training.global_batch_size": 64},
        50,
    ),
    "cluster.network.tiers.0.latency": (
        {"cluster.gpus": 64, "cluster.network.tiers": TWO_TIERS, "training.global_batch_size": 64},
        "1 ms",
    ),
    "cluster.network.oversubscription": ({}, 20),
    "cluster.network.latency": ({}, "1 ms"),
    "cluster.network.torus": ({**TPU, "cluster.network": TORUS, "parallelism.tp": 8}, [4, 64]),
    "cluster.price_per_gpu_hour": (PRICED, "3 $/h"),
    "cluster.pools.0.gpu": (MIXED, "b200"),
    "cluster.pools.0.scale_up_domain": ({**MIXED, "parallelism.tp": 8}, 4),
    "cluster.pools.0.network": (MIXED, "roce-50g"),
    "cluster.pools.0.price_per_gpu_hour": ({**MIXED, "cluster.pools.1.price_per_gpu_hour": "1 $/h"}, "3 $/h"),
    "model": ({}, "llama3-8b"),
    "model.like": ({"model": {"like": "gpt3-125m"}}, "gpt3-350m"),
    "model.name": ({}, "another-model"),
    "model.num_hidden_layers": ({}, 6),
    "model.hidden_size": ({}, 2048),
    "model.num_attention_heads": ({"model": {**DENSE, "head_dim": 128}}, 16),
    "model.intermediate_size": ({}, 2048),
    "model.vocab_size": ({}, 64000),
    "model.num_key_value_heads": ({}, 2),
    "model.head_dim": ({}, 64),
    "model.gated": ({}, False),
    "model.tie_word_embeddings": ({}, True),
    "model.positional": ({}, "none"),
    "model.max_position_embeddings": (
        {"model": {**DENSE, "positional": "learned", "max_position_embeddings": 2048}},
        4096,
    ),
    "model.norm": ({}, "layernorm"),
    "model.linear_bias": ({}, True),
    "model.qkv_bias": ({}, True),
    "model.qk_norm": ({}, True),
    "model.parallel_blocks": ({}, True),
    "model.residual_dropout": ({}, True),
    "model.sliding_window": ({}, 512),
    "model.attention_chunk_size": ({}, 512),
    "model.sliding_window_every": ({"model": {**DENSE, "sliding_window": 512}}, 2),
    "model.num_nextn_predict_layers": ({}, 1),
    "model.experts.num_experts": (ROUTED, 16),
    "model.experts.num_experts_per_tok": (ROUTED, 4),
    "model.experts.moe_intermediate_size": (ROUTED, 2048),
    "model.experts.num_shared_experts": (ROUTED, 1),
    "model.experts.first_k_dense_replace": (ROUTED, 2),
    "model.experts.moe_layer_step": (ROUTED, 2),
    "model.experts.n_group": (
        {
            **ROUTED,
            "training.experts.dispatcher": "deepep",
            "parallelism.ep": 16,
            "model.experts.num_experts": 16,
        },
        4,
    ),
    "model.experts.topk_group": (
        {
            **ROUTED,
            "training.experts.dispatcher": "deepep",
            "parallelism.ep": 16,
            "model.experts.num_experts": 16,
            "model.experts.n_group": 4,
        },
        2,
    ),
    "model.experts.moe_latent_size": (ROUTED, 512),
    "model.latent_attention.q_lora_rank": ({"model": LATENT}, 512),
    "model.latent_attention.kv_lora_rank": ({"model": LATENT}, 256),
    "model.latent_attention.qk_nope_head_dim": ({"model": LATENT}, 128),
    "model.latent_attention.qk_rope_head_dim": ({"model": LATENT}, 64),
    "model.latent_attention.v_head_dim": ({"model": LATENT}, 128),
    "model.layer_pattern": ({"model": MAMBA}, "MMM-"),
    "model.mamba.num_heads": ({"model": MAMBA}, 64),
    "model.mamba.head_dim": ({"model": MAMBA}, 128),
    "model.mamba.state_size": ({"model": MAMBA}, 64),
    "model.mamba.n_groups": ({"model": MAMBA}, 4),
    "model.mamba.conv_kernel": ({"model": MAMBA}, 8),
    "model.mamba.chunk_size": ({"model": MAMBA}, 256),
    "model.mtp_layer_pattern": ({"model": HYBRID}, "*"),
    "model.mtp_repeats_layer": ({"model": HYBRID}, True),
    "parallelism.tp": ({}, 2),
    "parallelism.pp": ({}, 2),
    "parallelism.vpp": (PIPELINE, 2),
    "parallelism.cp": ({}, 2),
    "parallelism.ep": ({"model": MOE}, 8),
    "parallelism.etp": ({**ROUTED, "parallelism.tp": 2}, 1),
    "parallelism.sequence_parallel": (SPLIT, False),
    "parallelism.schedule": (PIPELINE, "gpipe"),
    "parallelism.microbatch_group_size": (LOOPED, 4),
    "parallelism.sharding": ({}, "zero1"),
    "parallelism.shard_size": (ZERO3, 4),
    "parallelism.shard_replicas": (ZERO3, 2),
    "parallelism.reshard_after_forward": (ZERO3, False),
    "parallelism.prefetch": (ZERO3, 0),
    "parallelism.reduce_every_microbatch": (SLOW_NETWORK, True),
    "parallelism.layers": (PIPELINE, [1, 3]),
    "parallelism.cp_comm": (CONTEXT, "all_to_all"),
    "parallelism.cp_heads": (
        {**CONTEXT, "parallelism.cp_comm": "hierarchical", "parallelism.cp_heads": 2},
        4,
    ),
    "parallelism.cp_balance": (CONTEXT, False),
    "parallelism.vocabulary": (PIPELINE, "vocab-1"),
    "parallelism.placement": (
        {"parallelism.tp": 2, "parallelism.sharding": "zero1"},
        ["dp", "cp", "tp", "pp"],
    ),
    "training.precision": ({}, "fp8"),
    "training.bf16_layers_at_start": (FP8, 2),
    "training.bf16_layers_at_end": (FP8, 2),
    "training.low_precision_params": (FP8, True),
    "training.master_dtype": ({}, "bf16"),
    "training.moment_dtype": ({}, "bf16"),
    "training.recompute": ({}, "full"),
    "training.recompute_modules": (SELECTIVE, ["mlp"]),
    "training.recompute_method": ({**FULL, "training.recompute_num_layers": 1}, "block"),
    "training.recompute_num_layers": (FULL, 2),
    "training.distribute_saved_activations": (
        {**FULL, **SPLIT, "parallelism.sequence_parallel": False},
        True,
    ),
    "training.offload.activations": ({}, "all"),
    "training.offload.num_layers": (OFFLOADED, 1),
    "training.offload.optimizer": (ALONE, "cpu"),
    "training.offload.optimizer_fraction": (HOST, 0.5),
    "training.offload.optimizer_overlap": (HOST, False),
    "training.seq_length": ({}, 4096),
    "training.micro_batch_size": ({}, 2),
    "training.global_batch_size": ({}, 64),
    "training.attention": ({}, "flash3"),
    "training.grad_dtype": ({}, "bf16"),
    "training.reduce_dtype": ({}, "bf16"),
    "training.param_dtype": ({"parallelism.sharding": "zero3"}, "fp32"),
    "training.mean_document_length": ({}, 256.0),
    "training.loss_chunks": ({}, 4),
    "training.tokens": ({}, "1T"),
    "training.experts.dispatcher": (ROUTED, "deepep"),
    "training.experts.dispatch_dtype": ({**ROUTED, "training.experts.dispatcher": "deepep"}, "fp8"),
    "training.experts.load_imbalance": (ROUTED, 1.5),
    "training.experts.capacity_factor": ({**ROUTED, "training.experts.load_imbalance": 2.0}, 1.2),
    "training.experts.pad_to_capacity": ({**ROUTED, "training.experts.capacity_factor": 1.5}, True),
    "training.experts.grouped_gemm": ({"model": MOE}, False),
    "training.cuda_graphs": ({"software.kernel_launch": "100 us"}, ["full_iteration"]),
    "training.post_validation": (PIPELINE, True),
    "training.overlap.grad_reduce": ({}, False),
    "training.overlap.param_gather": ({"parallelism.sharding": "zero1"}, False),
    "training.overlap.p2p": (PIPELINE, False),
    "training.overlap.tp": (SPLIT, True),
    "training.overlap.ep": ({**ROUTED, **LOOPED}, True),
    "training.overlap.shared_experts": ({**ROUTED, "model.experts.num_shared_experts": 1}, True),
    "software": ({}, "torchtitan"),
    "software.like": ({}, "torchtitan"),
    "software.attention": ({}, "flash3"),
    "software.fused": ({}, []),
    "software.kernel_launch": ({}, "100 us"),
    "software.module_call": ({}, "1 ms"),
    "software.elementwise_slowdown": ({}, 2.0),
    "software.overlap": ({}, {"grad_reduce": False, "param_gather": False, "p2p": False, "tp": False}),
    "software.wgrad_overlaps_tp": (SPLIT, False),
    "software.bucket": ({"parallelism.sharding": "zero1"}, "1 GB"),
    "software.grad_dtype": ({}, "bf16"),
    "software.fp16_grad_dtype": ({"training.precision": "fp16"}, "fp32"),
    "software.step_overhead": ({}, "1 s"),
    "software.optimizer_bytes_per_parameter": ({}, 100.0),
    "software.reduction_bytes_per_parameter": ({}, 100.0),
    "software.framework_memory": ({}, "5 GiB"),
    "software.memory_fragmentation": ({}, 0.5),
    "software.recompute_modules": (SELECTIVE, ["mlp"]),
    "software.recompute_stops_early": (FULL, True),
    "software.casts_every_pass": (FP8, True),
    "software.cp_comm": (CONTEXT, "all_to_all"),
    "software.sorts_copies": (ROUTED, True),
    "software.repeats_key_values": ({"model.num_key_value_heads": 2}, True),
    "software.cp_gathers_in_turns": ({**CONTEXT, "parallelism.cp_comm": "all_gather"}, True),
    "software.loss_metrics": ({}, 2),
    "software.unpads_attention": ({"training.attention": "flash2"}, ["flash2"]),
    "software.tp_reduce_pieces": ({**SPLIT, "training.overlap.tp": True}, 2),
    "software.keeps_gathered_input": (SPLIT, True),
    "software.collective_multiprocessors": (SPLIT, 32),
    "software.reduce_every_microbatch": ({"parallelism.sharding": "zero2"}, False),
    "software.unshard_copies": (ZERO3, True),
    "software.loss_in_place": ({}, False),
    "software.gathers_logits": (SPLIT, True),
    "software.holds_last_output": ({}, True),
    "software.copies_attention_output": ({}, True),
    "software.separate_projections": ({}, True),
    "software.gate_apart": ({**SPLIT, "parallelism.sequence_parallel": False}, True),
    "software.sums_whole_gradients": ({"parallelism.sharding": "zero1"}, True),
    "software.reduce_dtype": ({"parallelism.sharding": "zero1"}, "bf16"),
    "software.whole_messages": (
        {"parallelism.pp": 2, "parallelism.tp": 8, "parallelism.sequence_parallel": False},
        True,
    ),
    "software.broadcasts_weights": ({"parallelism.sharding": "zero1"}, True),
    "software.gathers_tensor_by_tensor": (ZERO3, True),
    "software.blocks_launches": ({}, True),
    "software.dispatcher": (ROUTED, "allgather"),
}
"""Path -> (settings laid over ``BASE``, value); None as value: see the test."""

DESCRIBES: Mapping[str, str] = {
    "schema": "the version of the format; there is one",
    "base": "another file, of which only the settings count; tests/test_files.py",
    "simulation.engine": "both engines give the same answer; tests/laws/test_engine.py",
    "simulation.seed": "drawn by simulator montecarlo; tests/test_montecarlo.py",
    **{
        f"simulation.noise.{name}": "drawn by simulator montecarlo; tests/test_montecarlo.py"
        for name in (
            *("kernel_jitter", "speed_spread", "expert_imbalance"),
            *(f"stragglers.0.{part}" for part in ("gpus", "count", "slowdown", "bandwidth")),
        )
    },
    "parallelism.dp": "follows from the other degrees; another value is an error",
    "model.source": "provenance",
    "model.published_parameters": "compared with the count in tests/test_catalogue.py",
    "model.published_active_parameters": "compared with the count in tests/test_catalogue.py",
    "cluster.network.name": "what reports call it",
    "cluster.network.kind": "torus comes with 'torus'; tests/test_slices.py",
    "cluster.network.tiers.0.name": "what reports call it",
    "cluster.gpu.tdp": "power is not simulated yet",
    "cluster.pools.0.gpus": "moves ranks between pools; tests/test_mixed_clusters.py",
    "software.name": "what reports call it",
    "software.matches": "how publications mention it",
    "software.nearest_for": "how publications mention others",
    "model.hf_config": "another file; tests/test_files.py",
    "parallelism.schedule.csv": "another file; tests/test_schedules.py",
    "measured.source": "a citation",
    "search.free": "what simulator search varies; tests/test_search.py",
    "search.fix": "what simulator search varies; tests/test_search.py",
    "search.rank_by": "what simulator search looks for; tests/test_search.py",
    "search.top": "what simulator search shows; tests/test_search.py",
    "search.front": "what simulator search shows; tests/laws/test_search.py",
    "search.tokens_per_s": "what simulator search looks for; tests/test_search.py",
    "search.days": "what simulator search looks for; tests/test_search.py",
    "sweep.parameters": "what simulator sweep varies; tests/test_cli.py",
    "sweep.together": "what simulator sweep varies; tests/test_cli.py",
    "sweep.x": "what simulator sweep draws; tests/test_cli.py",
    "sweep.y": "what simulator sweep draws; tests/test_cli.py",
    "sweep.series": "what simulator sweep draws; tests/test_cli.py",
    "sweep.published.0.x": "what simulator sweep draws; tests/test_reports.py",
    "sweep.published.0.y": "what simulator sweep draws; tests/test_reports.py",
    "sweep.published.0.source": "what simulator sweep draws; tests/test_reports.py",
    "sweep.published.0.series": "what simulator sweep draws; tests/test_reports.py",
}
"""Fields that no result of ``simulator run`` depends on, and why."""
