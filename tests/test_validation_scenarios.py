"""Published rows become scenarios: what is not stated follows the stack, and a warning says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import parsed

from simulator.errors import RowError
from simulator.validation.stages import stage_layers
from simulator.validation.to_scenario import to_scenario


@pytest.mark.parametrize(
    ("blank", "warning", "path", "expected"),
    [
        ({"precision": None}, "precision", ("training", "precision"), "bf16"),
        ({"recompute": None}, "recompute", ("training", "recompute"), "none"),
        ({"micro_batch": None}, "micro-batch", ("training", "micro_batch_size"), 1),
        ({"global_batch": None}, "global batch", ("training", "global_batch_size"), 128),
        ({"seq_len": None}, "sequence length", ("training", "seq_length"), 4096),
        ({"parallel": {"zero": None}}, "sharding", ("parallelism", "sharding"), "zero1"),
        (
            {"parallel": {"sequence_parallel": None}},
            "sequence par",
            ("parallelism", "sequence_parallel"),
            True,
        ),
        ({"schedule": "interleaved"}, "number of virtual", ("parallelism", "vpp"), 8),
        ({"schedule": None, "overlap": {"pp": True}}, "number of virtual", ("parallelism", "vpp"), 8),
        ({"arch": {"tied": None}}, "tied", ("model", "tie_word_embeddings"), False),
        ({"arch": {"positional": None}}, "positions", ("model", "positional"), "rope"),
        ({"attention": None}, "attention", ("training", "attention"), "flash2"),
    ],
)
def test_what_is_not_stated_gets_the_stacks_default_and_a_warning(
    blank: dict[str, object], warning: str, path: tuple[str, str], expected: object
) -> None:
    scenario, warnings = to_scenario(parsed(**blank))
    if path != ("training", "attention"):
        assert getattr(getattr(scenario, path[0]), path[1]) == expected
    assert any(text.startswith(warning) and "not stated" in text for text in warnings)
    assert not any(text.startswith(warning) for text in to_scenario(parsed())[1])


@pytest.mark.parametrize(
    ("row", "path", "expected"),
    [
        ({"stack": "torchtitan", "micro_batch": None}, "micro_batch_size", 4),
        ({"stack": "Megatron-Core", "micro_batch": None}, "micro_batch_size", 1),
        ({"stack": "llm-foundry", "attention": "flash2"}, "attention", "flash2"),
        (
            {"stack": "llm-foundry", "attention": "flash2", "notes": "attention impl inferred: HEAD"},
            "attention",
            "flash1",
        ),
    ],
)
def test_stacks_fill_blanks_as_their_sources_say(row: dict[str, object], path: str, expected: object) -> None:
    """torchtitan cuts 16 sequences into as many micro-batches as ranks; an inferred kernel is a blank."""
    shape = {"gpus": 64, "global_batch": 128, "parallel": {"tp": 2, "pp": 4, "cp": 1, "ep": 1, "dp": 8}}
    scenario, _ = to_scenario(parsed(**{**shape, "micro_batch": 1, **row}))
    assert getattr(scenario.training, path) == expected


def test_unknown_stack_fabric_and_gpu_are_replaced_by_the_nearest_with_a_warning() -> None:
    strange = {"stack": "HomeGrown 7", "network": "carrier pigeons", "gpu": "h100-80gb-sxm-water-cooled"}
    scenario, warnings = to_scenario(parsed(**strange))
    assert scenario.cluster.gpu.name == "h100-80gb-sxm"
    assert scenario.software.name == "megatron-core"
    assert scenario.cluster.network.bytes_per_s_per_gpu == 50e9
    for word in strange.values():
        assert any(str(word) in text for text in warnings)


def test_recipes_that_run_on_another_trainer_are_simulated_on_it() -> None:
    scenario, _ = to_scenario(parsed(stack="NeMo (DGXC release 24.11)", notes="JAX/XLA MaxText, FSDP; GA 1"))
    assert scenario.software.name == "maxtext-gpu"


def test_notes_tell_that_attention_and_feed_forward_run_side_by_side() -> None:
    notes = "MegaScale = Megatron + parallel transformer block + sliding window attention"
    assert to_scenario(parsed(notes=notes))[0].model.parallel_blocks
    assert not to_scenario(parsed())[0].model.parallel_blocks


@pytest.mark.parametrize(("release", "kernel"), [("24.03.01", "flash2"), ("24.09", "cudnn")])
def test_older_releases_ran_older_attention(release: str, kernel: str) -> None:
    row = parsed(stack="NeMo 25.xx", source=f"NeMo docs, LLAMA2-7B on H100, NeMo {release}", attention=None)
    assert to_scenario(row)[0].training.attention == kernel


def test_a_fabric_runs_at_the_rate_of_its_row() -> None:
    scenario, _ = to_scenario(parsed(network="roce", network_gbps_per_gpu=300))
    assert scenario.cluster.network.bytes_per_s_per_gpu == pytest.approx(37.5e9)
    assert len(scenario.cluster.network.tiers) > 1


def test_chips_of_several_devices_are_simulated_whole() -> None:
    tpu: dict[str, object] = {
        "gpu": "tpu-v7x",
        "stack": "MaxText / XLA",
        "gpus": 64,
        "network": "ici-3d-torus",
    }
    parallel = {"tp": 1, "pp": 1, "dp": 128, "zero": 1}
    scenario, warnings = to_scenario(
        parsed(**tpu, parallel=parallel, network_gbps_per_gpu=None, gpus_per_node=4)
    )
    assert (scenario.parallelism.dp, scenario.training.micro_batch_size) == (64, 2)
    assert any("devices" in text for text in warnings)


@pytest.mark.parametrize("change", [{"gpus": 32}, {"global_batch": 127}, {"arch": {"experts": 8}}])
def test_contradictions_are_refused_with_both_sides(change: dict[str, object]) -> None:
    with pytest.raises(RowError, match=r"row contradicts itself: .+"):
        to_scenario(parsed(**change))


def test_catalogue_supplies_what_rows_have_no_word_for() -> None:
    arch = {"layers": 61, "hidden": 7168, "heads": 128, "kv_heads": 128, "head_dim": 128, "ffn": 18432}
    experts = {"experts": 256, "topk": 8, "expert_ffn": 2048, "shared_experts": 1, "moe_layers": 58}
    same, _ = to_scenario(parsed(model="deepseek-v3", arch={**arch, **experts}))
    assert same.model.latent_attention is not None
    assert same.model.experts is not None
    assert same.model.experts.first_k_dense_replace == 3
    other, _ = to_scenario(parsed(model="deepseek-v3", arch={**arch, **experts, "hidden": 8192}))
    assert other.model.latent_attention is None


def test_recipes_of_a_release_fill_in_what_its_rows_leave_out() -> None:
    experts = {"experts": 128, "topk": 8, "expert_ffn": 768}
    told: dict[str, object] = {
        "model": "qwen3-30b-a3b",
        "arch": experts,
        "parallel": {"pp": 1, "dp": 32, "ep": 8},
    }
    late = to_scenario(parsed(**told, stack="Megatron-Bridge 26.08", gpu="gb200", precision="fp8-mx"))[0]
    assert late.training.cuda_graphs == ("full_iteration",)
    assert late.training.overlap.ep
    notes = "yaml: token drop, cuda graphs on."
    early = to_scenario(parsed(**told, stack="Megatron-Bridge 25.09", notes=notes))[0]
    assert set(early.training.cuda_graphs) == {"attn", "mlp", "moe"}
    assert early.training.experts.dispatcher == "alltoall"
    assert early.training.experts.capacity_factor == 1.0


@given(st.integers(1, 200), st.integers(1, 64))
@settings(max_examples=100, deadline=None)
def test_stages_hold_all_layers_and_differ_by_at_most_one(layers: int, stages: int) -> None:
    split = stage_layers(layers, stages)
    assert (sum(split), len(split)) == (layers, stages)
    assert max(split) - min(split) <= 1
    larger = [stage for stage, size in enumerate(split) if size == max(split)]
    assert larger == list(range(larger[0], larger[-1] + 1))
    assert 0 <= (stages - 1 - larger[-1]) - larger[0] <= 1
