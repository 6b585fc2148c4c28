"""Published rows become scenarios, predictions stand beside measurements, and no row gets lost."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from simulator import validation
from simulator.errors import InputError, RowError, SimulationError
from simulator.reports.figure import figure_bytes
from simulator.reports.validation_figure import validation_figure
from simulator.validation import not_yet
from simulator.validation.conventions import stated_convention
from simulator.validation.fits import judge_fits
from simulator.validation.rows import RawRow, Row, read_rows
from simulator.validation.run import outcome
from simulator.validation.stages import stage_layers
from simulator.validation.to_scenario import to_scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario

DATA = Path(__file__).parent / "data" / "published_rows.yaml"
SKIPPED = {
    "mb-26-06-llama3-1-405b-gb300-256-nvfp4": not_yet.PRECISIONS.get("nvfp4"),
    "moe-folding-t3-mixtral-8x22b-g8t8-folding-128g": None,
    "zerobubble-t4-1.5b-m24-zb-2p": not_yet.SCHEDULES.get("zb-2p"),
    "vocabpp-t5-g8-s2048-v64k-vocab-1": not_yet.METHODS.get("vocab-1"),
    "levanter-v3-256-750m": "model's shape is not stated",
    "bloom-prequel-187b-h13824-l80-a64-n40-dp8-tp8-pp10-mb4-gb2048-02-21": "row contradicts itself",
}


ODD_SHAPES = (
    {"layers": None},
    {"layers": 61},
    {"vocab": None},
    {"tied": None},
    {"positional": "sinus"},
    {"ffn": None},
    {"experts": 8},
    {"experts": 8, "topk": 2, "ffn": None, "expert_ffn": 4096},
)


@dataclass(frozen=True)
class Fixed:
    """An answer whose numbers are simple enough to check errors by hand."""

    scenario: Scenario
    step_time_s: float = 10.0

    def to_dict(self) -> Mapping[str, object]:
        tokens = self.scenario.tokens_per_step / self.step_time_s / self.scenario.cluster.gpus
        by_convention = {"causal": 400.0, "full": 440.0, "recompute": 580.0, "palm": 450.0, "6n": 390.0}
        return {
            "step_time_s": self.step_time_s,
            "tokens_per_s_per_gpu": tokens,
            "tflops_per_gpu": 400.0,
            "tflops_per_gpu_by_convention": by_convention,
            "memory": {
                "peak_bytes": 60 * 2**30,
                "fits": True,
                "ranks": [
                    {"terms_bytes": {"framework": 5 * 2**30, "weights": 40 * 2**30, "fragmentation": 2**30}},
                    {
                        "terms_bytes": {
                            "framework": 5 * 2**30,
                            "activations": 50 * 2**30,
                            "fragmentation": 5 * 2**30,
                        }
                    },
                ],
            },
        }


def row(**changes: object) -> dict[str, object]:
    """A plain dense row; dictionaries are merged into those of the row."""
    arch = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336}
    base: dict[str, object] = {
        "id": "plain",
        "stack": "Megatron-Core",
        "gpu": "h100-80gb-sxm",
        "gpus": 64,
        "model": "a-model-of-its-own",
        "arch": {**arch, "vocab": 128256, "gated": True, "tied": False, "positional": "rope"},
        "seq_len": 8192,
        "parallel": {"tp": 2, "cp": 1, "pp": 4, "dp": 8, "ep": 1, "zero": 1, "sequence_parallel": True},
        "schedule": "1f1b",
        "micro_batch": 1,
        "global_batch": 128,
        "precision": "bf16",
        "recompute": "none",
        "overlap": {"tp": False, "dp": True, "pp": False},
        "attention": "flash2",
        "network": "infiniband, rail-optimised",
        "network_gbps_per_gpu": 400,
        "measured": {"step_time_s": 8.0},
    }
    for key, value in changes.items():
        old = base.get(key)
        base[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return base


def parsed(**changes: object) -> Row:
    return RawRow("plain", "tests", row(**changes)).parsed()


def run(**changes: object) -> validation.RowOutcome:
    return outcome(RawRow("plain", "tests", row(**changes)), Fixed)


def test_every_published_row_is_simulated_or_skipped_with_its_reason() -> None:
    report = validation.validate([DATA], simulate=Fixed)
    for found in report.rows:
        assert (found.comparison is None) == (found.skipped is not None)
        assert (found.reason or "").startswith(SKIPPED.get(found.id) or "")
    assert {found.id for found in report.rows if found.skipped} == {
        id_ for id_, why in SKIPPED.items() if why
    }
    assert sum(report.skipped_by_reason.values()) == len(report.rows) - len(report.simulated)
    assert report.skipped_by_reason["row contradicts itself"] == 1


def test_published_rows_survive_the_real_simulator() -> None:
    report = validation.validate([DATA])
    assert len(report.simulated) == len(report.rows) - sum(why is not None for why in SKIPPED.values())
    for found, comparison in report.simulated:
        assert -0.8 < comparison.error < 4, found.id


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "gpu": st.sampled_from(["h100-80gb-sxm-foo", "b100", "tpu-v9", "", "a100-40gb-sxm"]),
            "gpus": st.sampled_from([1, 8, 64, 0, "many"]),
            "stack": st.sampled_from([None, "PaLM", "torchtitan", "MaxText / XLA"]),
            "network": st.sampled_from(
                [None, "carrier pigeons", "roce", "ici-3d-torus", "single node nvlink"]
            ),
            "network_gbps_per_gpu": st.sampled_from([None, 37, 400]),
            "schedule": st.sampled_from([None, "interleaved", "v-half", "unheard-of"]),
            "precision": st.sampled_from([None, "fp8-mx", "nvfp4", "posit16"]),
            "recompute": st.sampled_from([None, "some"]),
            "attention": st.sampled_from([None, "flash9"]),
            "micro_batch": st.sampled_from([None, 3]),
            "global_batch": st.sampled_from([None, 7, 256]),
            "seq_len": st.sampled_from([None, 2048]),
            "method": st.sampled_from([None, "vocab-2"]),
            "arch": st.sampled_from(ODD_SHAPES),
            "parallel": st.sampled_from([{"dp": None}, {"vpp": 3}, {"zero": None}, {"zero": 3}, {"ep": 8}]),
            "measured": st.sampled_from([{"step_time_s": None}, {"step_time_s": -1}]),
        },
    )
)
@settings(max_examples=150, deadline=None)
def test_no_row_is_dropped_and_no_row_breaks_the_run(changes: dict[str, object]) -> None:
    found = run(**changes)
    assert (found.comparison is not None) != bool(found.skipped)
    assert bool(found.skipped) == bool(found.reason)


def test_a_time_that_is_too_long_and_a_rate_that_is_too_low_have_the_same_error() -> None:
    slow = run(measured={"step_time_s": 8.0}).comparison  # 10 s predicted: 20% too slow
    assert slow is not None
    assert slow.error == pytest.approx(-0.2)
    tokens = 128 * 8192 / 8.0 / 64
    rate = run(measured={"step_time_s": None, "tokens_per_s_per_gpu": tokens}).comparison
    samples = run(measured={"step_time_s": None, "samples_per_s_per_gpu": tokens / 8192}).comparison
    assert rate is not None
    assert samples is not None
    assert rate.error == pytest.approx(-0.2)
    assert samples.error == pytest.approx(-0.2)
    assert slow.measured_tflops == pytest.approx(500.0)  # 400 predicted over 0.8


def test_better_metrics_come_first() -> None:
    measured = {
        "mfu": 0.4,
        "tflops_per_gpu": 400.0,
        "samples_per_s_per_gpu": 1.0,
        "tokens_per_s_per_gpu": 1.0,
    }
    order = ["step_time_s", "tokens_per_s_per_gpu", "samples_per_s_per_gpu", "tflops_per_gpu", "mfu"]
    stated: dict[str, object] = {"step_time_s": 8.0, **measured}
    for metric in order:
        found = run(measured=stated).comparison
        assert found is not None
        assert found.metric == metric
        stated[metric] = None
    assert run(measured=stated).reason == "row states no speed to compare with"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("attention CAUSAL-HALVED here", 400.0),
        ("attention NON-causal, recompute not counted", 440.0),
        ("6N + 12Lhs", 450.0),
        ("96BsLh^2(1+s/6h+V/16Lh), recompute counted", 580.0),
        ("6*N per token", 390.0),
        (None, 400.0),
    ],
)
def test_flops_are_compared_as_the_source_counts_them(text: str | None, expected: float) -> None:
    found = run(measured={"step_time_s": None, "tflops_per_gpu": 380.0}, flops_convention=text)
    assert found.comparison is not None
    assert found.comparison.predicted == expected
    assumed = any(warning.startswith("FLOP convention not recognised") for warning in found.warnings)
    assert assumed == (stated_convention(text or "") is None)


@pytest.mark.parametrize(
    ("text", "peak"),
    [
        ("causal-halved, peak 989/1979", 989.0),
        ("causal-halved, peak 312", 989.0),
        ("causal-halved, vs 1000", 1000.0),
    ],
)
def test_mfu_is_measured_against_the_stated_peak_if_it_is_this_gpus(text: str, peak: float) -> None:
    found = run(measured={"step_time_s": None, "mfu": 0.4}, flops_convention=text).comparison
    assert found is not None
    assert found.predicted == pytest.approx(400 / peak)


def test_memory_in_gib_and_in_gb() -> None:
    gib = run(measured={"peak_memory_gib": 50.0}).comparison
    gb = run(measured={"peak_memory_gb": 50.0}).comparison
    assert gib is not None
    assert gb is not None
    assert gib.memory_error == pytest.approx(0.2)
    assert gb.memory_error == pytest.approx(0.2 * 2**30 / 1e9 + (2**30 / 1e9 - 1), rel=1e-9)


@pytest.mark.parametrize(
    ("stack", "notes", "gib"),
    [
        ("Megatron-Core", "", 60.0),
        ("Megatron-Core", "peak is max_memory_allocated", 50.0),
        ("torchtitan", "", 55.0),
        ("Megatron-LM fork 2024 (sail-sg)", "", 50.0),
        ("Megatron-LM fork 2024 (sail-sg)", "memory is max reserved", 55.0),
    ],
)
def test_memory_is_compared_in_the_quantity_that_the_source_measures(
    stack: str, notes: str, gib: float
) -> None:
    found = run(stack=stack, notes=notes, measured={"peak_memory_gib": gib}).comparison
    assert found is not None
    assert found.memory_error == pytest.approx(0.0)
    assert found.predicted_memory_bytes == 60 * 2**30


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


def test_simulation_errors_are_reasons_and_defects_carry_the_row() -> None:
    def refuses(_: Scenario) -> Fixed:
        raise SimulationError("ranks 0 and 1 wait for each other")

    def breaks(_: Scenario) -> Fixed:
        raise ZeroDivisionError

    raw = RawRow("plain", "tests", row())
    assert outcome(raw, refuses).skipped == "ranks 0 and 1 wait for each other"
    with pytest.raises(ZeroDivisionError) as caught:
        outcome(raw, breaks)
    assert "'plain'" in "".join(caught.value.__notes__)


def test_json_keys_and_text() -> None:
    report = validation.validate([DATA], limit=7, simulate=Fixed)
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(content) == {"summary", "rows", "measured_times", "components"}
    keys = {"id", "metric", "predicted", "published", "error", "skipped", "source", "gpu", "warnings"}
    assert all(keys <= set(found) for found in content["rows"])
    summary = content["summary"]
    assert (summary["rows"], summary["simulated"] + summary["skipped"]) == (7, 7)
    assert summary["errors"].keys() >= {
        "mean_abs_error",
        "median_abs_error",
        "p90_abs_error",
        "bias",
        "skill",
    }
    stream = io.StringIO()
    validation.render(report, stream, all_rows=True)
    assert all(found.id[:20] in stream.getvalue() for found, _ in report.simulated)
    assert all(reason[:60] in stream.getvalue() for reason in report.skipped_by_reason)


def test_progress_counts_rows() -> None:
    seen: list[tuple[int, int]] = []
    validation.validate([DATA, DATA], limit=3, simulate=Fixed, progress=lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "{a: 1}"),
        ("b.yaml", "- [1, 2"),
        ("c.yaml", b"\xff\xfe\x00"),
        ("d.yaml", ""),
        ("none", None),
    ],
)
def test_files_that_are_no_rows_are_input_errors(
    tmp_path: Path, name: str, content: str | bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=name):
        read_rows([path])
    with pytest.raises(InputError, match=r"no .yaml file|is a YAML list|not valid|cannot be read"):
        read_rows([tmp_path])


def test_rows_that_are_malformed_are_skipped_by_field(tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    with path.open("w") as stream:
        YAML(typ="safe").dump([row(gpus="many"), 7, {"id": "empty"}, row()], stream)
    report = validation.validate([tmp_path], simulate=Fixed)
    assert [found.id for found in report.rows] == ["plain", "rows.yaml#2", "empty", "plain"]
    assert report.skipped_by_reason == {"row is malformed": 3}
    assert "gpus" in (report.rows[0].skipped or "")


@pytest.mark.parametrize("registry", ["SCHEDULES", "PRECISIONS", "METHODS"])
def test_a_line_deleted_from_the_registry_is_no_reason_any_more(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows([DATA])
    before = [outcome(raw, Fixed).reason for raw in rows]
    reasons = getattr(not_yet, registry)
    monkeypatch.setattr(not_yet, registry, {})
    after = [outcome(raw, Fixed).reason for raw in rows]
    gone = set(reasons.values())
    assert not gone & set(after)
    assert all(old == new for old, new in zip(before, after, strict=True) if old not in gone)


def test_figure_draws_simulated_rows_only() -> None:
    report = validation.validate([DATA], simulate=Fixed)
    rows = [found.to_dict() for found in report.rows]
    figure = validation_figure(rows)
    drawn = sum(len(line.get_xdata()) for line in figure.axes[0].get_lines()[:-1])  # type: ignore[arg-type]
    assert drawn == len(report.simulated)
    assert figure_bytes(figure, ".png").startswith(b"\x89PNG")
    with pytest.raises(InputError):
        validation_figure([found for found in rows if found["skipped"]])


def test_runs_that_ran_out_of_memory_are_told_from_those_that_finished() -> None:
    report = judge_fits(stride=12)
    assert (report.skipped, report.finished + report.failed) == (0, 53)
    assert report.finished_right == report.finished
    assert report.share_right > 0.85  # 0.95 of all runs; this sample holds more of the close ones
    assert len(report.wrong) == round((1 - report.share_right) * 53)
