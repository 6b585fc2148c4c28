"""Tables, traces and figures: what they must say, and what they must not distort."""

from __future__ import annotations

import gzip
import io
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.table import Table

from simulator import api, files
from simulator.cli.screen import show
from simulator.engines.timeline import Timeline
from simulator.errors import InputError
from simulator.explore import SweepTable, sweep
from simulator.reports.boxes import boxes_of
from simulator.reports.curve_figure import curve_figure
from simulator.reports.figure import figure_bytes
from simulator.reports.occupancy import busy_by_kind, busy_fraction
from simulator.reports.output import check_writable, write_whole
from simulator.reports.style import KIND_COLOURS
from simulator.reports.sweep_table import sweep_table
from simulator.reports.table import result_table
from simulator.reports.timeline_figure import timeline_figure
from simulator.reports.trace import left_out, trace_bytes, trace_json
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import StepOverhead

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from simulator.results.result import Result

DOCUMENT = {
    "cluster": {"gpu": "h100-80gb-sxm", "gpus": 64},
    "model": "llama3-8b",
    "parallelism": {"tp": 2, "pp": 4, "sharding": "zero1"},
    "training": {
        "seq_length": 4096,
        "micro_batch_size": 1,
        "global_batch_size": 64,
        "precision": "bf16",
        "tokens": "1T",
    },
    "measured": {"tflops_per_gpu": 300, "source": "a paper, Table 1"},
    "sweep": {
        "parameters": {"cluster.gpus": [16, 64, 128], "parallelism.tp": [2, 3, 4]},
        "x": "cluster.gpus",
        "series": "parallelism.tp",
        "published": [{"x": 64, "y": 300, "source": "a paper, Table 1"}],
    },
}


@pytest.fixture(scope="module")
def result() -> Result:
    return api.simulate(files.from_document(DOCUMENT, name="small"))


@pytest.fixture(scope="module")
def table() -> SweepTable:
    return sweep(files.from_document(DOCUMENT, name="small"))


def boxes(*, count: int, busy: float, lanes: int = 3, seed: int = 0) -> Timeline:
    """Build lanes of forward passes that are busy for a share of each period, at random within it."""
    random = np.random.default_rng(seed)
    builder = ProgramBuilder(rank_names=tuple(f"pp {lane}" for lane in range(lanes)))
    start = []
    for lane in range(lanes):
        for box in range(count):
            builder.add(OpKind.FORWARD, lane, Stream.COMPUTE, StepOverhead(), microbatch=box, stage=lane)
            start.append(box + random.uniform(0, 1 - busy))
    start_s = np.array(start)
    start_s[count - 1] = count - busy
    return Timeline(program=builder.build(), start_s=start_s, end_s=start_s + busy)


# Tables


def test_table_names_convention_peak_memory_and_error(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    show(result_table(result))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    for expected in (
        f"{result.metrics['tflops_per_gpu']:.1f} TFLOP/s per GPU; attention halved for causality",
        f"{result.metrics['tflops_per_gpu_full']:.1f} with attention in full",
        "of 989 TFLOP/s bf16 dense (h100-80gb-sxm)",
        "8.03 billion parameters",
        "pipeline bubble",
        "Memory per GPU",
        "Published: a paper, Table 1",
        f"{result.metrics['tflops_per_gpu'] / 300 - 1:+.1%}",
        f"{result.metrics['days']:,.1f} days",
    ):
        assert expected in text
    assert "\x1b" not in text


def test_table_shares_sum_to_the_whole(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    show(result_table(result))
    lines = capsys.readouterr().out.split("Where the")[1].split("Memory per GPU")[0].splitlines()[1:]
    shares = [float(word[:-1]) for line in lines for word in line.split() if word.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


def test_brackets_in_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column("placement")
    table.add_row("[tp,cp,dp,pp] :rocket:")
    show(table)
    assert "[tp,cp,dp,pp] :rocket:" in capsys.readouterr().out


def test_sweep_keeps_impossible_points_with_their_reason(table: SweepTable) -> None:
    rows = table.rows()
    assert [(row["gpus"], row["tp"]) for row in rows] == [(n, tp) for n in (16, 64, 128) for tp in (2, 3, 4)]
    assert list(rows[0])[:13] == [
        *("gpu", "gpus", "precision", "gbs", "mbs", "seq", "tp", "pp", "cp", "vpp", "ep"),
        *("tokens_per_s_per_gpu", "tflops_per_gpu"),
    ]
    for row in rows:
        assert bool(row["problem"]) == (row["tp"] == 3) == (row["tflops_per_gpu"] is None)
    csv = table.to_csv().splitlines()
    assert len(csv) == 10
    assert csv[0].startswith(
        "gpu,gpus,precision,gbs,mbs,seq,tp,pp,cp,vpp,ep,tokens_per_s_per_gpu,tflops_per_gpu,dp"
    )
    assert len(json.loads(json.dumps(table.to_dict(), allow_nan=False))["points"]) == 9


def test_sweep_table_prints_reason_once(table: SweepTable) -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(sweep_table(table))
    text = console.export_text()
    assert (
        text.count("not possible (1)") + text.count("not possible (2)") + text.count("not possible (3)") == 3
    )
    assert all(str(row["problem"]).split(";")[0][:40] in text for row in table.rows() if row["problem"])


def test_sweep_without_block_is_an_input_error() -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != "sweep"}
    with pytest.raises(InputError, match="no 'sweep:' block"):
        sweep(files.from_document(document, name="small"))


# Traces


def test_trace_follows_the_format(result: Result) -> None:
    events = json.loads(trace_json(result.timeline, name="small"))["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "s", "f", "C"}
    required = {
        "X": {"dur", "cat", "args"},
        "M": {"args"},
        "C": {"args"},
        "s": {"id", "cat"},
        "f": {"id", "cat", "bp"},
    }
    for event in events:
        assert {"ph", "pid", "tid", "ts", "name"} | required[event["ph"]] <= set(event)
        assert event["ts"] >= 0
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)


def test_trace_holds_every_op_once_and_no_overlap(result: Result) -> None:
    timeline = result.timeline
    slices = [event for event in json.loads(trace_json(timeline))["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == timeline.program.num_ops
    assert max(event["ts"] + event["dur"] for event in slices) == pytest.approx(
        timeline.makespan_s * 1e6, abs=1e-3
    )
    lanes: dict[tuple[int, int], float] = {}
    for event in slices:
        lane = (event["pid"], event["tid"])
        assert event["ts"] >= lanes.get(lane, 0.0) - 1e-6
        lanes[lane] = event["ts"] + event["dur"]
    names = {event["name"] for event in slices if event["tid"] == Stream.COMPUTE}
    assert {"F0", "B0", "F7", "B7"} <= names
    forward = next(event for event in slices if event["name"] == "F0" and event["args"]["stage"] == 1)
    assert forward["args"]["microbatch"] == 0
    assert forward["args"]["flops"] > 1e11


def test_trace_arrows_go_forward_in_time_between_ranks(result: Result) -> None:
    events = json.loads(trace_json(result.timeline))["traceEvents"]
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert len(starts) >= 2 * 3 * 8  # forward and backward over three borders, eight micro-batches
    for number, start in starts.items():
        assert start["pid"] != ends[number]["pid"]
        assert start["ts"] <= ends[number]["ts"]


def test_trace_memory_counter_returns_to_zero(result: Result) -> None:
    events = [event for event in json.loads(trace_json(result.timeline))["traceEvents"] if event["ph"] == "C"]
    last = {event["pid"]: event["args"]["bytes"] for event in events}
    peak = max(event["args"]["bytes"] for event in events)
    assert set(last.values()) == {0}
    assert peak == pytest.approx(max(rank.activations for rank in result.memory.ranks), rel=1e-9)


def test_trace_bytes_are_the_same_every_time(result: Result) -> None:
    once, again = (trace_bytes(result.timeline, name="n", compressed=True) for _ in range(2))
    assert once == again
    assert gzip.decompress(once) == trace_bytes(result.timeline, name="n", compressed=False)


def test_trace_says_what_it_leaves_out() -> None:
    timeline = boxes(count=10, busy=0.5, lanes=8)
    assert left_out(timeline) == ""
    trace = json.loads(trace_json(timeline, max_slices=45))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == 40
    assert trace["otherData"]["left_out"].startswith("left out to stay below 45 slices: 4 of 8 ranks")
    assert (
        len([e for e in json.loads(trace_json(timeline, max_slices=7))["traceEvents"] if e["ph"] == "X"]) == 7
    )


# Figures


@pytest.mark.parametrize("count", [20, 100, 400, 700, 1600, 20_000], ids="{}-boxes".format)
def test_timeline_ink_is_busy_time(count: int) -> None:
    figure = timeline_figure(boxes(count=count, busy=0.4))
    ink = drawn_share(figure, lane=1, lanes=3)
    assert ink == pytest.approx(0.4, abs=0.02)


def test_timeline_shows_thin_boxes_beside_wide_ones() -> None:
    builder = ProgramBuilder(rank_names=("pp 0",))
    starts = [0.0, *np.linspace(0.5, 0.999, 16)]
    widths = [0.4, *[0.2 / 1600] * 16]
    for number in range(17):
        builder.add(OpKind.FORWARD, 0, Stream.COMPUTE, StepOverhead(), microbatch=number, stage=0)
    start_s = np.array(starts)
    timeline = Timeline(program=builder.build(), start_s=start_s, end_s=start_s + np.array(widths))
    line = drawn_line(timeline_figure(timeline), lane=0, lanes=1)
    half = len(line) // 2
    assert line[:half].sum() == pytest.approx(0.4 * 1600, abs=1.5)
    assert line[half - 1 :].sum() == pytest.approx(16 * 0.2, rel=0.1)


def drawn_share(figure: Figure, lane: int, lanes: int) -> float:
    return float(drawn_line(figure, lane, lanes).mean())


def drawn_line(figure: Figure, lane: int, lanes: int) -> NDArray[np.float64]:
    """Measure, in each rendered pixel along a lane, how much of it has the colour of a forward pass."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    axes = figure.axes[0]
    box = axes.get_window_extent()
    row = pixels.shape[0] - round(box.y1 - (lane + 0.58) / lanes * box.height)
    line = pixels[row, round(box.x0) : round(box.x1)]
    background = np.array([0xED] * 3, dtype=float)
    colour = np.array([int(KIND_COLOURS[OpKind.FORWARD][i : i + 2], 16) for i in (1, 3, 5)], dtype=float)
    direction = colour - background
    share = (line - background) @ direction / (direction @ direction)
    return np.clip(share, 0, 1)


def test_occupancy_conserves_busy_time() -> None:
    timeline = boxes(count=777, busy=0.3)
    edges = np.linspace(0, timeline.makespan_s, 1001)
    lane = boxes_of(timeline, timeline.ops_of(1))
    shares = busy_by_kind([lane], np.array([OpKind.FORWARD]), edges)
    assert shares.sum() * np.diff(edges)[0] == pytest.approx(777 * 0.3)
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-12
    assert busy_fraction(np.zeros(0), np.zeros(0), edges).sum() == 0


def test_timeline_numbers_wide_boxes_with_their_microbatch(result: Result) -> None:
    figure = timeline_figure(result.timeline, title="small")
    numbers = {text.get_text() for text in figure.axes[0].texts}
    assert numbers == {str(n) for n in range(8)}
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["pp 0", "pp 1", "pp 2", "pp 3"]


def test_curve_draws_a_line_per_series_and_published_points(table: SweepTable) -> None:
    axes = curve_figure(table).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {f"tp {tp}" for tp in (2, 3, 4)}
    drawn = lines["tp 4"].get_ydata()
    expected = [row["tflops_per_gpu"] for row in table.rows() if row["tp"] == 4]
    assert list(drawn) == pytest.approx(expected)
    labels = axes.get_legend_handles_labels()[1]
    assert "published: a paper, Table 1" in labels
    assert "not possible (3)" in labels
    assert axes.get_ylabel() == "TFLOP/s per GPU"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_deterministic_and_leave_no_global_state(
    result: Result, table: SweepTable, suffix: str
) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    for draw, data in ((timeline_figure, result.timeline), (curve_figure, table)):
        once, again = (figure_bytes(draw(data), suffix) for _ in range(2))
        assert len(once) > 5000
        assert once == again
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


# Files


def test_output_is_checked_before_and_written_whole(tmp_path) -> None:  # noqa: ANN001
    with pytest.raises(InputError, match="no folder"):
        check_writable(tmp_path / "missing" / "a.json")
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match=r"must end in \.png"):
        check_writable(tmp_path / "a.gif", (".png",))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is not a folder"):
        check_writable(tmp_path / "file" / "a.json")
    target = tmp_path / "a.json"
    target.write_bytes(b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "file"]
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "missing" / "a.json", b"")
