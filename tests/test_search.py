"""``simulator search`` as people use it: what is free, what is asked for, what is wrong."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from simulator import ScenarioError, files, save_curve, search
from simulator.cli import main
from simulator.errors import InputError
from simulator.reports.search_figure import search_figure

if TYPE_CHECKING:
    from pathlib import Path

SCENARIO = """
# Which layout of Llama 3 8B is best on 32 H100s?
name: small
cluster: {gpu: h100-80gb-sxm, gpus: 32, network: rail-optimised-400g, price_per_gpu_hour: 2 $/h}
model: llama3-8b
parallelism: {tp: 2, pp: 2, sharding: zero1, schedule: 1f1b}
training: {seq_length: 4096, global_batch_size: 64, recompute: none, tokens: 1T}
search:
  free: {tp: [1, 2, 4], pp: [1, 2], mbs: [1, 2], sharding: [none, zero1]}
  top: 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["search", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_table_a_curve_and_a_spreadsheet(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, picture = tmp_path / "best.csv", tmp_path / "best.png"
    assert main(["search", file, "--front", "memory", "--csv", str(rows), "--plot", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "24 combinations" in text
    assert "Why the others lost" in text
    assert "Front" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = list(csv.DictReader(rows.read_text().splitlines()))
    assert [row["rank"] for row in table] == ["1", "2", "3"]
    speeds = [float(row["tokens_per_s"]) for row in table]
    assert speeds == sorted(speeds, reverse=True)


def test_the_best_layouts_as_parquet(file: str, tmp_path: Path) -> None:
    reader = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "best.parquet"
    assert main(["search", file, "--parquet", str(path)]) == 0
    read = reader.read_table(path).to_pylist()
    assert [row["rank"] for row in read] == [1, 2, 3]
    assert read[0]["parallelism.tp"] in {1, 2, 4}


def test_the_figure_names_the_best_and_its_legend_covers_nothing(file: str) -> None:
    free = ["search.free.recompute=[none, full]", "search.free.sharding=[none, zero1]"]
    figure = search_figure(search(files.load(file, overrides=free)))
    (axes,), (legend,) = figure.axes, figure.legends
    FigureCanvasAgg(figure).draw()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    (best,) = [text.get_text() for text in axes.texts if text.get_text().startswith("best: ")]
    assert "none" not in best.removeprefix("best: ").split(", ")


def test_what_is_not_free_stays_and_every_combination_is_accounted_for(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, file)
    assert found["size"] == 24
    assert sum(found["lost"].values()) + len(found["best"]) == 24
    assert {best["result"]["memory"]["fits"] for best in found["best"]} == {True}
    assert set(found["best"][0]["settings"]) == {
        "parallelism.tp",
        "parallelism.pp",
        "training.micro_batch_size",
        "parallelism.sharding",
    }
    first = found["best"][0]
    assert first["lost_by"] is None
    assert len({best["step_time_s"] for best in found["best"]}) > 2
    for best in found["best"]:
        assert best["step_time_s"] == pytest.approx(best["result"]["step_time_s"], rel=1e-9)
        assert bool(best["lost_by"]) == (best["step_time_s"] > first["step_time_s"])
        for term, lost_s in (best["lost_by"] or {}).items():
            before, after = (one["result"]["breakdown_s"] for one in (first, best))
            assert lost_s == pytest.approx(after[term] - before[term])
            assert lost_s == pytest.approx(max(after[name] - before[name] for name in after))


def test_the_command_line_fixes_and_frees(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = answer(capsys, file, "--tp", "4", "--fix", "pp")
    assert set(fixed["free"]) == {"training.micro_batch_size", "parallelism.sharding", "parallelism.dp"} - {
        "parallelism.dp"
    }
    freed = answer(capsys, file, "--tp", "4", "--free", "recompute=none,full", "--free", "schedule")
    assert freed["free"]["training.recompute"] == ["none", "full"]
    assert freed["free"]["parallelism.schedule"] == "auto"
    assert "parallelism.tp" not in freed["free"]


def test_standard_input_is_a_file_like_others(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--tp", "4", "--free", "recompute=none,full")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SCENARIO.encode())))
    found, expected = answer(capsys, "-", *options), answer(capsys, file, *options)
    assert (found["free"], found["lost"]) == (expected["free"], expected["lost"])


def test_without_a_block_a_layout_is_free(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(SCENARIO.partition("search:")[0])
    found = answer(capsys, str(path), "--top", "1", "--mbs", "1", "--fix", "sequence_parallel")
    assert {"parallelism.tp", "parallelism.vpp", "training.recompute"} <= set(found["free"])
    assert not {"training.micro_batch_size", "parallelism.sequence_parallel"} & set(found["free"])
    assert len(found["best"]) == 1


def test_the_cheapest_is_not_the_fastest_and_the_fewest_gpus_reach_the_deadline(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gpus = ("--free", "gpus=8,16,32")
    fastest, cheapest = (answer(capsys, file, *gpus, "--rank-by", by) for by in ("throughput", "cost"))
    assert fastest["best"][0]["gpus"] == 32
    assert cheapest["best"][0]["gpus"] < 32
    cost = cheapest["best"][0]["cost_per_token"] * 1e12
    assert cost == pytest.approx(cheapest["best"][0]["result"]["cost_dollars"], rel=1e-9)
    half = fastest["best"][0]["tokens_per_s"] / 2
    days = 1e12 / half / 86400
    fewest = answer(capsys, file, *gpus, "--rank-by", "gpus", "--days", str(days), "--front", "gpus")
    assert fewest["best"][0]["gpus"] == 16
    assert all(best["tokens_per_s"] >= half for best in fewest["best"])
    assert [point["gpus"] for point in fewest["front"]] == [32, 16]


def test_what_is_free_need_not_be_possible_as_the_file_has_it(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """25 GPUs are no multiple of the file's tp x pp; what is fixed must still be possible."""
    given = ("--gpus", "24", "--set", "training.global_batch_size=96")
    assert {best["gpus"] for best in answer(capsys, file, *given)["best"]} == {24}
    assert main(["search", file, *given, "--tp", "3"]) == 2
    assert "tp = 3 does not divide the 32 attention heads" in capsys.readouterr().err
    with pytest.raises(ScenarioError):
        files.load(file, overrides=["cluster.gpus=25"])
    assert main(["search", file, "--gpus", "25"]) == 1
    assert "No layout is possible" in capsys.readouterr().out


def test_nothing_fits(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", file, "--set", "training.seq_length=131072"]) == 1
    text = capsys.readouterr().out
    assert "No layout" in text
    assert "needs more memory than a GPU has" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("search.free.tpp=auto", "did you mean 'tp'"),
        ("search.free.mbs=[0]", "training.micro_batch_size: 0"),
        ("search.free.sharding=[zero4]", "zero4"),
        ("search.free.training.seq_length=auto", "list those to choose from"),
        ("search.free.name=[a]", "nothing that a search can choose"),
        ("search.rank_by=gpus", "the fewest GPUs for what?"),
        ("search.front=gpus", "cluster.gpus"),
        ("search.fix=[recomput]", "did you mean"),
        ("search.top=0", "search.top"),
        ("search.days=-1", "search.days"),
    ],
)
def test_a_wrong_search_is_explained(file: str, settings: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        files.load(file, [settings])
    assert said in str(caught.value)


def test_a_search_needs_a_file_and_one_kind_of_gpu(file: str, tmp_path: Path) -> None:
    from dataclasses import replace

    scenario = files.load(file)
    with pytest.raises(InputError, match="use load"):
        search(replace(scenario, document={}))
    table = search(scenario)
    save_curve(table, tmp_path / "a.svg")
    assert table.rows()[0]["rank"] == 1
    pools = {"pools": [{"gpu": "h100-80gb-sxm", "gpus": 16}, {"gpu": "a100-80gb-sxm", "gpus": 16}]}
    mixed = {**scenario.document, "cluster": pools}
    with pytest.raises(InputError, match="several"):
        search(files.from_document(mixed))
