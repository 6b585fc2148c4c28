"""No published row gets lost: each is simulated, or skipped with its reason."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_rows import Fixed, row, run
from ruamel.yaml import YAML

from simulator import validation
from simulator.errors import InputError, SimulationError
from simulator.reports.figure import figure_bytes
from simulator.reports.validation_figure import validation_figure
from simulator.validation.fits import judge_fits
from simulator.validation.rows import RawRow, read_rows
from simulator.validation.run import outcome

if TYPE_CHECKING:
    from simulator.scenario import Scenario

DATA = Path(__file__).parent / "data" / "published_rows.yaml"

SKIPPED = {
    "mb-26-06-llama3-1-405b-gb300-256-nvfp4": None,
    "moe-folding-t3-mixtral-8x22b-g8t8-folding-128g": None,
    "zerobubble-t4-1.5b-m24-zb-2p": None,
    "vocabpp-t5-g8-s2048-v64k-vocab-1": None,
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
