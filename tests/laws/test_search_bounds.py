"""A search's bounds never exceed what is simulated, also where communication takes most of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from laws.search_spaces import bounded_layouts, free_settings, put
from simulator import files
from simulator.batch.evaluate import evaluate
from simulator.errors import SimulatorError

if TYPE_CHECKING:
    from random import Random

    from simulator.scenario import Scenario

DENSE: dict[str, object] = {
    "num_hidden_layers": 8,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 32000,
}
EXPERTS: dict[str, object] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 2048}
MODELS: dict[str, dict[str, object]] = {
    "dense": DENSE,
    "few key-value heads": {**DENSE, "num_key_value_heads": 2},
    "uneven": {**DENSE, "num_hidden_layers": 6, "num_key_value_heads": 2},
    "tied": {**DENSE, "tie_word_embeddings": True},
    "large vocabulary": {**DENSE, "num_hidden_layers": 4, "vocab_size": 256000},
    "experts": {**DENSE, "num_key_value_heads": 2, "experts": EXPERTS},
    "shared experts": {**DENSE, "num_hidden_layers": 4, "experts": {**EXPERTS, "num_shared_experts": 1}},
}
VALUES: dict[str, list[object]] = {
    "tp": [1, 2, 4, 8],
    "pp": [1, 2, 4],
    "vpp": [1, 2],
    "cp": [1, 2, 4],
    "ep": [1, 2, 4],
    "layers": ["even", "lighter-ends", "balanced"],
    "schedule": [None, "gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "looped-bfs", "dualpipe", "v-half"],
    "sharding": ["zero3", "fsdp", "shard_grad_op", "hybrid", "none", "zero1", "zero2"],
    "sequence_parallel": [None, False],
    "placement": [
        ["tp", "cp", "dp", "pp"],
        ["pp", "tp", "cp", "dp"],
        ["tp", "pp", "dp", "cp"],
        ["dp", "tp", "cp", "pp"],
    ],
    "mbs": [1, 2, 4],
    "recompute": ["none", "selective", "full"],
    "offload_activations": ["none", "all"],
    "offload_optimizer": ["none", "stream", "cpu"],
    "overlap_tp": [False, True],
    "overlap_grad_reduce": [True, False, None],
    "overlap_param_gather": [True, False],
    "overlap_p2p": [True, False],
}
TOGETHER: list[dict[str, int]] = [
    {"sharding": 4, "overlap_grad_reduce": 2, "overlap_param_gather": 2},
    {"sharding": 3, "pp": 2},
    {"sharding": 3, "tp": 3},
    {"sharding": 3, "cp": 2},
    {"sharding": 3, "ep": 2},
    {"sharding": 3, "placement": 2, "tp": 2},
    {"pp": 2, "vpp": 2, "overlap_p2p": 2},
    {"pp": 2, "schedule": 2, "mbs": 2},
    {"offload_optimizer": 3, "sharding": 2},
    {"recompute": 2, "offload_activations": 2, "pp": 2},
]
"""Settings that are free together, each with so many values at least."""
FAST_HOST: dict[str, object] = {
    "like": "h100-80gb-sxm",
    "peak": {"bf16": "989 TFLOP/s", "fp32": "67 TFLOP/s"},
    "memory": {"capacity": "80 GB", "bandwidth": "1 TB/s"},
    "scale_up": {"bandwidth": "450 GB/s"},
    "network_bandwidth": "50 GB/s",
    "host": {"bandwidth": "20 TB/s", "memory_bandwidth": "20 TB/s"},
}
"""A GPU whose host updates offloaded state in no time: elsewhere that hides what the GPU itself updates."""
NARROW: list[tuple[dict[str, int], dict[str, list[object]]]] = [
    (
        {"sharding": 4, "pp": 3, "mbs": 1},
        {
            "parallelism.reshard_after_forward": [None, True, False],
            "parallelism.reduce_every_microbatch": [None, True, False],
        },
    ),
    ({"placement": 4, "tp": 2, "sharding": 3}, {"cluster.scale_up_domain": [2, 4]}),
    ({"placement": 4, "cp": 2, "pp": 2, "sharding": 1}, {"cluster.scale_up_domain": [2, 4]}),
    (
        {"offload_optimizer": 3, "sharding": 2, "tp": 1},
        {
            "training.offload.optimizer_fraction": [0.1, 0.5, 1.0],
            "cluster.gpu": [FAST_HOST, FAST_HOST, "h100-80gb-sxm"],
            "cluster.network": ["fat-tree-400g"],
        },
    ),
]
"""Settings of which one decides most of a step: nothing else is free, and values of others."""
FIXED: dict[str, list[object]] = {
    "parallelism.reshard_after_forward": [True, False],
    "parallelism.reduce_every_microbatch": [True, False],
    "parallelism.prefetch": [0, 2],
    "parallelism.shard_size": [2],
    "parallelism.cp_comm": ["all_gather", "ring", "all_to_all"],
    "parallelism.cp_balance": [False],
    "parallelism.etp": [1],
    "parallelism.microbatch_group_size": [4],
    "training.offload.optimizer_fraction": [0.5],
    "training.grad_dtype": ["bf16"],
    "training.post_validation": [True],
    "software": ["megatron-core", "torchtitan", "maxtext", "llm-foundry", "megatron-deepspeed"],
}
MOST = 48
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a whole space takes longer than reading it."""


def space(draw: Random) -> dict[str, Any]:
    """Return a document with few tokens on a network that is mostly slow, and a ``search:`` block."""
    model = MODELS[draw.choice(sorted(MODELS))]
    has_experts = "experts" in model
    gpus = draw.choice([8, 16, 32])
    bandwidth, latency = draw.choice(["1 Gb/s", "10 Gb/s", "100 Gb/s"]), draw.choice(["1 us", "200 us"])
    content: dict[str, Any] = {
        "cluster": {
            "gpu": "h100-80gb-sxm",
            "gpus": gpus,
            "network": {"bandwidth_per_gpu": bandwidth, "latency": latency},
            "scale_up_domain": draw.choice([1, 2, 8]),
        },
        "model": dict(model),
        "training": {
            "seq_length": draw.choice([128, 128, 512, 2048]),
            "global_batch_size": gpus * draw.choice([1, 2, 4]),
        },
    }
    always = draw.choice([names for names in TOGETHER if has_experts or "ep" not in names])
    values = {name: VALUES[name] for name in VALUES if has_experts or name != "ep"}
    content["search"] = {"free": free_settings(draw, values, always, MOST)}
    for path in draw.sample(sorted(FIXED), draw.randint(0, 4)):
        put(content, path, draw.choice(FIXED[path]))
    return content


def narrow_space(draw: Random) -> dict[str, Any]:
    """Return a document whose ``search:`` block frees one of the groups of ``NARROW`` alone."""
    free, fixed = draw.choice(NARROW)
    gpus = draw.choice([8, 16])
    bandwidth, latency = draw.choice(["1 Gb/s", "10 Gb/s"]), draw.choice(["1 us", "200 us"])
    content: dict[str, Any] = {
        "cluster": {
            "gpu": "h100-80gb-sxm",
            "gpus": gpus,
            "network": {"bandwidth_per_gpu": bandwidth, "latency": latency},
        },
        "model": dict(MODELS[draw.choice(["dense", "tied", "large vocabulary"])]),
        "training": {"seq_length": 128, "global_batch_size": gpus * draw.choice([1, 4])},
        "search": {"free": free_settings(draw, {name: VALUES[name] for name in free}, free, MOST)},
    }
    for path, choices in fixed.items():
        value = draw.choice(choices)
        if value is not None:
            put(content, path, value)
    return content


SPACES = st.randoms(use_true_random=True).map(space)
NARROW_SPACES = st.randoms(use_true_random=True).map(narrow_space)
"""Drawn evenly: Hypothesis alone would repeat parts of one space in the next."""


def loaded(content: dict[str, Any]) -> Scenario:
    """Load a document; another one is drawn where its own layout breaks a rule."""
    try:
        return files.from_document(content, "space")
    except SimulatorError:
        assume(False)
        raise


def check(scenario: Scenario) -> None:
    rows = bounded_layouts(scenario)
    results = evaluate([row.scenario for row in rows])
    for number, row in enumerate(rows):
        if results.problems[number]:
            continue
        about = f"{row.scenario.parallelism} {row.scenario.training}"
        assert row.memory_bytes <= results.peak_memory_bytes[number] * (1 + 1e-12), about
        assert row.near_s <= row.placed_s * (1 + 1e-9), about
        assert row.placed_s <= results.step_time_s[number] * (1 + 1e-12), about


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(SPACES)
def test_no_bound_exceeds_what_is_simulated_where_communication_counts(content: dict[str, Any]) -> None:
    check(loaded(content))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(NARROW_SPACES)
def test_no_bound_exceeds_what_is_simulated_where_one_setting_decides(content: dict[str, Any]) -> None:
    check(loaded(content))


@pytest.mark.parametrize("model", ["dense", "few key-value heads", "tied"])
@pytest.mark.parametrize(
    "parallelism", [{}, {"reshard_after_forward": False}, {"reduce_every_microbatch": True}], ids=str
)
def test_on_a_slow_network_the_bound_is_most_of_the_step(model: str, parallelism: dict[str, Any]) -> None:
    """Else the law above would hold of a bound that counts no communication (of experts it counts none)."""
    content = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 16, "network": {"bandwidth_per_gpu": "1 Gb/s"}},
        "model": dict(MODELS[model]),
        "parallelism": parallelism,
        "training": {"seq_length": 128, "global_batch_size": 64},
        "search": {"free": {"parallelism.sharding": ["none", "zero3"], "parallelism.tp": [1, 2, 4]}},
    }
    rows = bounded_layouts(files.from_document(content))
    results = evaluate([row.scenario for row in rows])
    assert len(rows) == 6
    for row, step_time_s, memory in zip(rows, results.step_time_s, results.peak_memory_bytes, strict=True):
        assert row.placed_s >= 0.9 * step_time_s
        assert row.memory_bytes >= 0.9 * memory


@pytest.mark.parametrize("sharding", ["none", "zero1"])
@pytest.mark.parametrize("offload", ["none", "stream", "cpu"])
def test_where_the_optimizer_takes_longest_the_bound_counts_the_fullest_rank(
    sharding: str, offload: str
) -> None:
    """The first rank holds the large embedding, and the last one the head besides six of the layers."""
    content = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 2, "network": "fat-tree-400g"},
        "model": {**DENSE, "vocab_size": 8192},
        "training": {"seq_length": 128, "global_batch_size": 2},
        "parallelism": {"pp": 2, "layers": [2, 6], "sharding": sharding},
        "search": {"free": {"training.offload.optimizer": [offload]}},
    }
    (row,) = bounded_layouts(files.from_document(content))
    step_time_s = evaluate([row.scenario]).step_time_s[0]
    assert 0.7 * step_time_s <= row.placed_s <= step_time_s


@pytest.mark.parametrize("predictions", [0, 1])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_where_the_head_takes_most_memory_the_bound_counts_it(predictions: int, recompute: str) -> None:
    """The loss over a large vocabulary takes more for a moment than all that the layers keep."""
    content = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 2, "network": "fat-tree-400g"},
        "model": {**MODELS["large vocabulary"], "num_nextn_predict_layers": predictions},
        "training": {"seq_length": 8192, "global_batch_size": 4, "recompute": recompute},
        "search": {"free": {"parallelism.pp": [1, 2]}},
    }
    rows = bounded_layouts(files.from_document(content))
    memory = evaluate([row.scenario for row in rows]).peak_memory_bytes
    assert len(rows) == 2
    for row, peak_bytes in zip(rows, memory, strict=True):
        assert 0.95 * peak_bytes <= row.memory_bytes <= peak_bytes
