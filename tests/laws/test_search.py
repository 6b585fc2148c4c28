"""A search finds what simulating every combination finds, and its bounds never exceed what is simulated."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from simulator import files
from simulator.api import simulate, step_time_s, timed_step
from simulator.batch.evaluate import evaluate
from simulator.costs.collectives import collective_cost
from simulator.errors import SimulatorError
from simulator.explore.search import search
from simulator.explore.search.axes import axis_values
from simulator.explore.search.bound_costs import Prices
from simulator.explore.search.layouts import Layouts
from simulator.explore.search.memory_bound import memory_bound
from simulator.explore.search.time_bound import time_bound
from simulator.files import Variations
from simulator.scenario.search import AXES
from simulator.workload.work import Collective, Group

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.work import CollectiveKind

DENSE = {
    "num_hidden_layers": 8,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 2048}
MODELS: dict[str, dict[str, object]] = {
    "dense": DENSE,
    "thin": {**DENSE, "num_hidden_layers": 6, "hidden_size": 2048, "num_attention_heads": 16},
    "tied": {**DENSE, "tie_word_embeddings": True},
    "experts": {**DENSE, "num_hidden_layers": 6, "hidden_size": 2048, "experts": EXPERTS},
}
VALUES: dict[str, list[object]] = {
    "tp": [1, 2, 4, 8],
    "pp": [1, 2, 4],
    "vpp": [1, 2, 4],
    "cp": [1, 2],
    "ep": [1, 2, 4],
    "layers": ["even", "lighter-ends", "balanced"],
    "schedule": [
        None,
        "gpipe",
        "1f1b",
        "interleaved",
        "zb-h1",
        "zb-v",
        "looped-bfs",
        "dualpipe",
        "v-half",
        "interleaved-zb",
    ],
    "sharding": ["none", "zero1", "zero2", "zero3", "fsdp", "shard_grad_op", "hybrid"],
    "sequence_parallel": [True, False, None],
    "placement": [["tp", "cp", "dp", "pp"], ["pp", "tp", "cp", "dp"], ["tp", "pp", "dp", "cp"]],
    "mbs": [1, 2, 4, 8],
    "recompute": ["none", "selective", "full"],
    "offload_activations": ["none", "all", ["mlp"]],
    "offload_optimizer": ["none", "stream", "cpu"],
    "overlap_tp": [True, False],
    "overlap_grad_reduce": [True, False, None],
    "overlap_param_gather": [True, False],
    "overlap_p2p": [True, False],
}
FIXED: dict[str, list[object]] = {
    "training.recompute_method": ["uniform", "block"],
    "training.recompute_num_layers": [1, 2],
    "training.offload.num_layers": [None, 1],
    "training.offload.optimizer_fraction": [0.5, 1.0],
    "training.overlap.ep": [True, False],
    "training.post_validation": [None, True, False],
    "parallelism.reduce_every_microbatch": [None, True, False],
    "parallelism.reshard_after_forward": [None, True, False],
    "parallelism.shard_size": [None, 1, 2],
    "parallelism.prefetch": [0, 1, 2],
    "training.precision": ["bf16", "fp16"],
    "training.loss_chunks": [1, 4],
    "training.mean_document_length": [None, 512],
    "training.master_dtype": ["fp32", "bf16"],
    "training.grad_dtype": ["fp32", "bf16"],
    "parallelism.vocabulary": ["none", "vocab-1"],
    "parallelism.microbatch_group_size": [None, 4],
    "parallelism.cp_comm": ["all_gather", "ring", "all_to_all"],
    "parallelism.cp_balance": [True, False],
    "parallelism.etp": [None, 1],
    "parallelism.shard_replicas": [None, 1, 2],
    "model.num_nextn_predict_layers": [0, 1],
    "model.sliding_window": [None, 512],
    "software": [
        "megatron-core",
        "megatron-lm-2021",
        "torchtitan",
        "maxtext",
        "llm-foundry",
        "aleph-alpha-scaling",
    ],
    "cluster.gpu": ["a100-40gb-sxm", "h100-80gb-sxm"],
    "cluster.scale_up_domain": [None, 2],
}
MOST = 48
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a whole search takes longer than reading it."""


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Return a scenario's document with a small ``search:`` block; the layout of the file itself is plain."""
    model = draw(st.sampled_from(sorted(MODELS)))
    content: dict[str, Any] = {
        "cluster": {
            "gpu": "a100-40gb-sxm",
            "gpus": draw(st.sampled_from([4, 8, 16])),
            "network": "fat-tree-100g",
        },
        "model": dict(MODELS[model]),
        "parallelism": {"pp": 1},
        "training": {"seq_length": 2048, "global_batch_size": draw(st.sampled_from([16, 32]))},
    }
    size, free = 1, {}
    for name in draw(st.permutations(sorted(VALUES))):
        few = draw(st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=3, unique_by=json.dumps))
        if size * len(few) <= MOST:
            free[AXES[name]] = few
            size *= len(few)
    content["search"] = {"free": free, "top": 5}
    for path in draw(st.lists(st.sampled_from(sorted(FIXED)), max_size=3, unique=True)):
        value = draw(st.sampled_from(FIXED[path]))
        if value is not None:
            put(content, path, value)
    return content


def put(content: dict[str, Any], path: str, value: object) -> None:
    *above, last = path.split(".")
    for part in above:
        content = content.setdefault(part, {})
    content[last] = value


def loaded(content: dict[str, Any]) -> Scenario:
    try:
        return files.from_document(content, "space")
    except SimulatorError:
        assume(False)
        raise


def everything(scenario: Scenario) -> dict[str, tuple[float, float]]:
    """Run every combination one by one: seconds and bytes of those that fit."""
    assert scenario.search is not None
    free = {path: values for path, values in scenario.search.free.items() if values is not None}
    known: dict[str, tuple[float, float]] = {}
    for values in itertools.product(*free.values()):
        content = dict(scenario.document)
        overrides = [
            f"{path}={json.dumps(value)}"
            for path, value in zip(free, values, strict=True)
            if value is not None
        ]
        try:
            overrides += ["parallelism.dp=auto"]
            result = simulate(files.from_document(content, "space", overrides))
        except SimulatorError:
            continue
        if result.memory.fits:
            name = json.dumps(dict(zip(free, values, strict=True)))
            known[name] = (result.metrics["step_time_s"], result.memory.peak_bytes)
    return known


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(spaces())
def test_the_best_and_the_front_are_those_of_all_combinations(content: dict[str, Any]) -> None:
    content["search"]["front"] = "memory"
    scenario = loaded(content)
    known = everything(scenario)
    table = search(scenario)
    assert bool(table.best) == bool(known)
    if not known:
        return
    times = sorted({seconds for seconds, _ in known.values()})
    assert table.best[0].layout.step_time_s == pytest.approx(times[0], rel=1e-8)
    mine = [each.layout.step_time_s for each in table.best]
    assert mine == sorted(mine)
    for seconds in times:  # settings without effect make several combinations of one layout
        assert seconds >= mine[-1] * (1 - 1e-6) or any(abs(seconds / each - 1) < 1e-6 for each in mine)
    front = [(each.step_time_s, each.peak_memory_bytes) for each in table.front]
    for seconds, memory in known.values():
        assert any(s <= seconds * (1 + 1e-8) and m <= memory * (1 + 1e-8) for s, m in front)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(spaces(), st.sampled_from(["event", "compiled"]))
def test_run_says_of_a_listed_layout_what_its_row_says(content: dict[str, Any], engine: str) -> None:
    content["simulation"] = {"engine": engine}
    content["search"]["front"] = "memory"
    scenario = loaded(content)
    best: dict[str, float] = {}
    for row in search(scenario).to_dict()["best"]:  # type: ignore[attr-defined]
        overrides = [f"{path}={json.dumps(value)}" for path, value in row["settings"].items()]
        result = simulate(files.from_document(dict(scenario.document), "space", overrides))
        about = f"{row['settings']}"
        assert row["step_time_s"] == pytest.approx(result.metrics["step_time_s"], rel=1e-9), about
        assert row["tokens_per_s"] == pytest.approx(result.metrics["tokens_per_s"], rel=1e-9), about
        assert row["peak_memory_bytes"] == pytest.approx(result.memory.peak_bytes, rel=1e-9), about
        parts = result.breakdown.as_dict()
        best = best or parts
        most = max(parts[name] - best[name] for name in parts)
        noise = 1e-6 * row["step_time_s"]
        ((term, lost_s),) = (row["lost_by"] or {"nothing": 0.0}).items()
        assert lost_s == pytest.approx(most, rel=1e-6, abs=noise), about
        if lost_s:
            assert parts[term] - best[term] == pytest.approx(most, abs=noise), about


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(spaces())
def test_no_bound_exceeds_what_is_simulated_and_no_valid_layout_is_missing(content: dict[str, Any]) -> None:
    scenario = loaded(content)
    assert scenario.search is not None
    variations = Variations.of(scenario, ["parallelism.dp=auto"])
    layouts = Layouts.of(axis_values(scenario.search, variations), variations)
    prices = Prices(layouts.system)
    space = layouts.space
    assert sum(space.excluded.values()) + int(space.possible.sum()) == space.size
    rows = []
    for family in layouts.families:
        pairs = np.arange(len(family.shape))
        memory = memory_bound(layouts, family)
        bounds = [
            time_bound(layouts, prices, family, pairs, with_topology=with_topology)
            for with_topology in (False, True)
        ]
        for pair, step in zip(*np.nonzero(space.possible[family.shape, family.layer]), strict=True):
            try:
                example = layouts.scenario(int(family.shape[pair]), int(family.layer[pair]), int(step))
            except SimulatorError:
                continue
            rows.append((example, memory[pair, step], bounds[0][pair, step], bounds[1][pair, step]))
    found = evaluate([example for example, *_ in rows])
    for number, (example, memory_bytes, near_s, placed_s) in enumerate(rows):
        if found.problems[number]:
            continue
        about = f"{example.parallelism} {example.training}"
        assert memory_bytes <= found.peak_memory_bytes[number] * (1 + 1e-12), about
        assert near_s <= placed_s * (1 + 1e-9), about
        assert placed_s <= found.least_s[number] * (1 + 1e-12), about
        assert found.least_s[number] <= found.step_time_s[number] * (1 + 1e-12), about
        assert found.least_s[number] <= step_time_s(timed_step(example), example) * (1 + 1e-12), about


@given(
    st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]),
    st.sampled_from([2, 3, 8, 64, 512]),
    st.sampled_from([1, 2, 8, 64]),
    st.floats(1.0, 1e11),
    st.floats(1.0, 1e11),
    st.sampled_from(["h100-80gb-sxm", "a100-80gb-sxm", "tpu-v5p", "gb200"]),
)
def test_one_collective_takes_no_longer_than_two_that_carry_as_much(
    kind: CollectiveKind, size: int, stride: int, first: float, second: float, gpu: str
) -> None:
    content = {
        "cluster": {"gpu": gpu, "gpus": size * stride * 8},
        "model": DENSE,
        "training": {"seq_length": 512, "global_batch_size": size * stride * 8},
    }
    cluster = files.from_document(content).cluster

    def seconds(data: float) -> float:
        group = Group(axis="dp", size=size, stride=stride)
        return collective_cost(Collective(kind=kind, group=group, bytes=data), cluster).alone_s

    assert seconds(first + second) <= (seconds(first) + seconds(second)) * (1 + 1e-12)
