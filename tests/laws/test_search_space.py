"""Every layout that the rules of scenario files allow is among those that a search looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from laws.search_spaces import count_possible, file_layouts, free_settings, possible_layouts, put
from simulator import files
from simulator.batch.evaluate import evaluate
from simulator.errors import SimulatorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from simulator.scenario import Scenario

DENSE: dict[str, object] = {
    "num_hidden_layers": 8,
    "hidden_size": 1536,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "intermediate_size": 4608,
    "vocab_size": 32000,
}
EXPERTS: dict[str, object] = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 1536,
}
MODELS: dict[str, dict[str, object]] = {
    "dense": DENSE,
    # tp 4, 6 and 8 copy key-value heads; tp 3 divides the heads but not these.
    "few key-value heads": {**DENSE, "num_key_value_heads": 2},
    "odd width": {**DENSE, "intermediate_size": 4620, "num_key_value_heads": 24},
    "uneven": {**DENSE, "num_hidden_layers": 7, "num_key_value_heads": 4},
    "lighter ends": {**DENSE, "num_hidden_layers": 6, "tie_word_embeddings": True},
    "tied": {**DENSE, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "experts": {**DENSE, "num_hidden_layers": 6, "num_key_value_heads": 2, "experts": EXPERTS},
    "shared experts": {
        **DENSE,
        "intermediate_size": 4620,
        "experts": {**EXPERTS, "num_experts": 6, "num_shared_experts": 1, "moe_intermediate_size": 1152},
    },
}
VALUES: dict[str, list[object]] = {
    "tp": [1, 2, 3, 4, 6, 8],
    "pp": [1, 2, 3, 4],
    "vpp": [1, 2, 4],
    "cp": [1, 2, 3, 4],
    "ep": [1, 2, 3, 4],
    "layers": ["even", "lighter-ends", "balanced", [1, 3, 3, 1], [3, 4]],
    "schedule": [None, "gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "looped-bfs", "dualpipe", "v-half"],
    "sharding": ["none", "zero1", "zero2", "zero3", "fsdp", "shard_grad_op", "hybrid"],
    "sequence_parallel": [None, True, False],
    "placement": [
        ["tp", "cp", "dp", "pp"],
        ["pp", "tp", "cp", "dp"],
        ["tp", "pp", "dp", "cp"],
        ["dp", "tp", "cp", "pp"],
        ["tp", "cp", "pp", "dp"],
    ],
    "mbs": [1, 2, 3, 4],
    "recompute": ["none", "selective", "full"],
    "offload_activations": ["none", "all"],
    "offload_optimizer": ["none", "stream", "cpu"],
    "overlap_tp": [True, False],
    "overlap_grad_reduce": [True, False],
    "overlap_param_gather": [True, False],
    "overlap_p2p": [True, False],
}
FIXED: dict[str, list[object]] = {
    "parallelism.cp_balance": [True, False],
    "parallelism.cp_comm": ["all_gather", "ring", "all_to_all"],
    "parallelism.etp": [1, 2],
    "parallelism.microbatch_group_size": [4],
    "parallelism.prefetch": [0, 2],
    "parallelism.reduce_every_microbatch": [True, False],
    "parallelism.reshard_after_forward": [True, False],
    "training.offload.num_layers": [1],
    "cluster.scale_up_domain": [2],
    "software": ["megatron-core", "megatron-lm-2021", "torchtitan", "maxtext", "llm-foundry"],
}
TOGETHER: list[tuple[dict[str, int], dict[str, list[object]]]] = [
    # 1540 = 4 x 385: cp divides it, and 2 x cp not always.
    ({"tp": 3, "cp": 2}, {"parallelism.cp_balance": [True, False], "training.seq_length": [1536, 1540]}),
    ({"cp": 3, "sequence_parallel": 2}, {"parallelism.cp_balance": [False], "training.seq_length": [1540]}),
    ({"tp": 3, "ep": 2}, {}),
    ({"tp": 2, "ep": 1, "sequence_parallel": 2}, {"parallelism.etp": [1, 2, 4]}),
    ({"tp": 1, "cp": 3, "ep": 3}, {"cluster.gpus": [8, 16]}),
    ({"pp": 2, "vpp": 2, "layers": 1}, {}),
    ({"pp": 2, "vpp": 2, "mbs": 1}, {"parallelism.microbatch_group_size": [2, 4, 8]}),
    ({"pp": 2, "schedule": 3, "mbs": 1}, {}),
    ({"placement": 3, "tp": 2, "cp": 2}, {"cluster.scale_up_domain": [2, 4]}),
    ({"placement": 3, "pp": 2, "tp": 2}, {"cluster.scale_up_domain": [2, 4]}),
    ({"placement": 4, "pp": 2, "cp": 2}, {"cluster.scale_up_domain": [2, 4]}),
    ({"placement": 3, "ep": 2, "tp": 2}, {"cluster.scale_up_domain": [2, 4]}),
    ({"sharding": 2, "overlap_grad_reduce": 2, "overlap_param_gather": 2}, {}),
    ({"sharding": 3, "overlap_param_gather": 2, "tp": 3}, {"cluster.gpus": [4, 8]}),
    ({"overlap_grad_reduce": 2, "cp": 3, "tp": 2}, {"cluster.gpus": [4, 8]}),
    ({"sequence_parallel": 2, "overlap_tp": 2, "tp": 2}, {}),
]
"""Free settings, each with so many values at least, and others that meet the same rules."""
MOST = 32
RTOL = 1e-9
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a whole space takes longer than reading it."""


def space(draw: Random) -> dict[str, Any]:
    """Return a document whose ``search:`` block frees one of the groups of ``TOGETHER`` and more."""
    model = MODELS[draw.choice(sorted(MODELS))]
    has_experts = "experts" in model
    content: dict[str, Any] = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": draw.choice([8, 16, 24, 48]), "network": "fat-tree-100g"},
        "model": dict(model),
        "parallelism": {"tp": draw.choice([1, 2]), "pp": draw.choice([1, 2])},
        "training": {
            "seq_length": 1536,
            "global_batch_size": draw.choice([48, 96]),
        },
    }
    always, fixed = draw.choice([group for group in TOGETHER if has_experts or "ep" not in group[0]])
    values = {name: VALUES[name] for name in VALUES if has_experts or name != "ep"}
    content["search"] = {"free": free_settings(draw, values, always, MOST)}
    for path in draw.sample(sorted(FIXED), draw.randint(0, 3)):
        put(content, path, draw.choice(FIXED[path]))
    for path, choices in fixed.items():
        put(content, path, draw.choice(choices))
    return content


SPACES = st.randoms(use_true_random=True).map(space)
"""Drawn evenly: Hypothesis alone would repeat parts of one space in the next."""


def loaded(content: dict[str, Any]) -> Scenario:
    """Load a document; another one is drawn where its own layout breaks a rule."""
    try:
        return files.from_document(content, "space")
    except SimulatorError:
        assume(False)
        raise


def outcomes(layouts: Sequence[Scenario]) -> tuple[list[Scenario], np.ndarray]:
    """Return the layouts that can be simulated, with their step times and peak memory as rows."""
    results = evaluate(layouts)
    rows = np.stack([results.step_time_s, results.peak_memory_bytes], axis=1)
    simulated = [number for number, problem in enumerate(results.problems) if not problem]
    return [layouts[number] for number in simulated], rows[simulated]


@settings(max_examples=110, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(SPACES)
def test_every_layout_that_a_file_may_ask_for_is_among_those_searched(content: dict[str, Any]) -> None:
    scenario = loaded(content)
    allowed, wanted = outcomes(file_layouts(scenario))
    _, searched = outcomes(possible_layouts(scenario))
    for layout, outcome in zip(allowed, wanted, strict=True):
        is_same = np.abs(searched - outcome) <= RTOL * outcome
        assert is_same.all(axis=1).any(), f"{layout.parallelism} {layout.training}"


def test_a_search_leaves_out_exactly_the_pipelines_that_no_file_may_ask_for() -> None:
    """So many passes that they are not simulated: 512 chunks of each micro-batch, or half as many."""
    content = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 512, "network": "fat-tree-100g"},
        "model": {**DENSE, "num_hidden_layers": 512},
        "training": {"seq_length": 128, "global_batch_size": 16384},
        "search": {"free": {"parallelism.pp": [128, 256, 512], "training.micro_batch_size": [1, 2]}},
    }
    scenario = files.from_document(content)
    wanted = [(one.parallelism.pp, one.training.micro_batch_size) for one in file_layouts(scenario)]
    assert count_possible(scenario) == len(possible_layouts(scenario)) == len(wanted)
    assert (512, 1) not in wanted
    assert (512, 2) not in wanted
    assert (128, 1) in wanted
