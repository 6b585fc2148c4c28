"""Pipeline schedules against what others publish, PyTorch's orders, papers' bubbles; files, pictures."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from factories import MODEL, make_scenario

from simulator import files, schedules
from simulator.cli import main
from simulator.errors import ScenarioError
from simulator.explore.schedule_timeline import schedule_timeline
from simulator.schedules import SCHEDULES, Overlapped, Request, StageTimes, passes
from simulator.schedules.csv_form import read_rows, write_rows
from simulator.schedules.op_kind import OpKind
from simulator.workload.pipeline import held_stages
from simulator.workload.step.build import build_step

if TYPE_CHECKING:
    from types import ModuleType

ORACLES = Path(__file__).with_name("oracles")
FACTS = json.loads((ORACLES / "pytorch_schedules.json").read_text())
BY_PYTORCH_NAME = {schedule.pytorch: schedule for schedule in SCHEDULES.values() if schedule.pytorch}
NAMES = (
    "gpipe 1f1b interleaved looped-bfs interleaved-zb zb-h1 zb-1p zb-2p zb-v v-half v-min dualpipe dualpipe-v"
)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle", ORACLES / "make_pytorch_schedules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(shape: str) -> list[str]:
    name, *degrees = shape.split()
    pp, vpp, microbatches = map(int, degrees)
    request = Request(pp=pp, vpp=vpp, num_microbatches=microbatches)
    assert BY_PYTORCH_NAME[name].fits(request)
    return list(write_rows(BY_PYTORCH_NAME[name].order(request)))


def test_every_named_schedule_is_found() -> None:
    assert set(SCHEDULES) == set(NAMES.split())


def test_orders_are_those_of_pytorch() -> None:
    fact = script().fact
    assert len(FACTS["orders"]) > 350
    assert FACTS["source"].startswith("torch 2.13.0")
    assert {shape.split()[0] for shape in FACTS["orders"]} == set(BY_PYTORCH_NAME)
    wrong = [shape for shape, rows in FACTS["orders"].items() if fact(ours(shape)) != rows]
    assert not wrong


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="compares with torch where it is installed"
)
def test_orders_are_those_of_the_installed_pytorch() -> None:
    oracle = script()
    for shape in oracle.grid():
        rows = oracle.order(*shape)
        if rows is not None:
            assert ours(" ".join(map(str, shape))) == rows, shape


# Qi et al., arXiv:2401.10241: T_F, T_B, T_W and T_comm of table 6 in ms, and the bubbles of table 5 for 1F1B,
# ZB-1p and ZB-2p (the models of 1.5B, 6.2B and 14.6B).
BUBBLES = [
    (2304, 24, 8, 24, (18.522, 18.086, 9.337, 0.601), (0.2431, 0.1585, 0.0433)),
    (2304, 24, 8, 64, (18.546, 18.097, 9.321, 0.762), (0.1240, 0.0674, 0.0026)),
    (4096, 32, 8, 24, (29.718, 29.444, 19.927, 0.527), (0.2347, 0.1323, 0.0029)),
    (5120, 40, 16, 48, (11.347, 11.248, 8.132, 0.377), (0.2552, 0.1397, 0.0066)),
    (5120, 40, 16, 128, (11.325, 11.308, 8.109, 0.378), (0.1251, 0.0576, 0.0028)),
]


@pytest.mark.parametrize(("hidden", "heads", "pp", "microbatches", "times_ms", "bubbles"), BUBBLES)
def test_bubbles_are_those_of_the_zero_bubble_paper(
    hidden: int,
    heads: int,
    pp: int,
    microbatches: int,
    times_ms: tuple[float, float, float, float],
    bubbles: tuple[float, float, float],
) -> None:
    forward, inputs, weights, message = times_ms
    times = StageTimes(
        forward=(forward,) * pp,
        backward_input=(inputs,) * pp,
        backward_weight=(weights,) * pp,
        message=message,
        weight_share=32 * hidden / (34 * hidden + 5 * heads * 1024),
    )
    work = microbatches * (forward + inputs + weights)
    for name, published in zip(("1f1b", "zb-1p", "zb-2p"), bubbles, strict=True):
        request = Request(pp=pp, vpp=1, num_microbatches=microbatches, times=times)
        timeline = schedule_timeline(SCHEDULES[name].order(request), times)
        spans = []
        for rank in range(pp):
            ops = timeline.ops_of(rank, 0)
            spans.append(timeline.end_s[ops].max() - timeline.start_s[ops].min())
        assert 1 - work / max(spans) == pytest.approx(published, abs=6e-5), name


def test_overlapped_pairs_hide_exchanges() -> None:
    """DualPipeV on a layer with tensor-parallel exchanges takes less time with its pairs than without."""
    model = replace(MODEL, num_hidden_layers=8)
    scenario = make_scenario(model=model, pp=2, vpp=2, tp=8, microbatches=8)
    named = replace(scenario, parallelism=replace(scenario.parallelism, schedule="dualpipe-v"))
    order = SCHEDULES["dualpipe-v"].order(Request(pp=2, vpp=2, num_microbatches=8))
    alone = write_rows(tuple(tuple(passes(entries)) for entries in order))
    split = replace(scenario.parallelism, schedule="custom", schedule_rows=alone)
    from simulator.api import simulate

    together = simulate(named)
    apart = simulate(replace(scenario, parallelism=split))
    assert together.metrics["step_time_s"] < apart.metrics["step_time_s"]
    assert together.breakdown.exposed_tp < apart.breakdown.exposed_tp
    assert together.memory.worst.activations == pytest.approx(apart.memory.worst.activations)


def test_dualpipe_holds_every_stage_twice_and_sums_its_copies() -> None:
    scenario = make_scenario(pp=4, microbatches=8)
    dualpipe = replace(scenario, parallelism=replace(scenario.parallelism, schedule="dualpipe"))
    step = build_step(dualpipe)
    assert step.held == ((0, 3), (1, 2), (1, 2), (0, 3))
    names = [getattr(step.program.works[work], "name", "") for work in step.program.work.tolist()]
    assert names.count("stage copies") == 8


def test_a_new_file_is_a_new_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reverse.py").write_text(
        "from simulator.schedules.gpipe import gpipe\n"
        "from simulator.schedules.schedule import Schedule\n"
        "SCHEDULE = Schedule(name='reverse', order=gpipe, source='a test')\n"
    )
    monkeypatch.setattr(schedules, "__path__", [*schedules.__path__, str(tmp_path)])
    assert set(schedules._found()) == {*SCHEDULES, "reverse"}


# Files


def scenario_text(degrees: str, batch: int) -> dict[str, object]:
    return {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 4},
        "model": "llama3-8b",
        "parallelism": {"pp": 4, "schedule": degrees} if isinstance(degrees, str) else {"pp": 4, **degrees},
        "training": {"seq_length": 4096, "global_batch_size": batch},
    }


def test_a_scenario_reads_a_schedule_from_a_file(tmp_path: Path) -> None:
    order = SCHEDULES["zb-v"].order(Request(pp=4, vpp=2, num_microbatches=8))
    path = tmp_path / "order.csv"
    path.write_text("\n".join(write_rows(order)) + "\n")
    content = scenario_text({"vpp": 2, "schedule": {"csv": str(path)}}, 8)  # type: ignore[arg-type]
    custom = files.from_document(content)
    named = files.from_document(scenario_text({"vpp": 2, "schedule": "zb-v"}, 8))  # type: ignore[arg-type]
    assert custom.parallelism.schedule == "custom"
    first, second = build_step(custom).program, build_step(named).program
    assert first.kind.tolist() == second.kind.tolist()
    assert first.dependency.tolist() == second.dependency.tolist()
    assert str(custom.document["parallelism"]).count(str(path)) == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0F0,0B0"], "1 lines, one per rank, but pp is 4"),
        (["0F0,0X0", "1F0,1B0", "2F0,2B0", "3F0,3B0"], "line 1: '0X0' is no action"),
        (["0F0,0B0", "1F0,1B0", "2F0,2B0", "3F0"], "stage 3, micro-batch 0: needs F and B"),
        (["0B0,0F0", "1F0,1B0", "2F0,2B0", "3F0,3B0"], "actions wait for each other for ever"),
        (["0F0,0B0", "1F0,1B0", "2F0,2B0", "3F0,3B0,4F0"], "stage 4, micro-batch 0: there are 4 stages"),
    ],
)
def test_a_wrong_schedule_file_is_explained(rows: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "order.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(ScenarioError, match=message):
        files.from_document(scenario_text({"schedule": {"csv": str(path)}}, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("degrees", "batch", "message"),
    [
        ({"schedule": "zb-v"}, 8, "zb-v runs 2 chunks per rank, but vpp is 1: set vpp: 2"),
        ({"schedule": "dualpipe"}, 6, "dualpipe needs an even number.*nearest global_batch_size: 8"),
        (
            {"schedule": "dualpipe-v", "vpp": 2},
            7,
            "at least 2 x pp micro-batches.*nearest global_batch_size: 8",
        ),
        ({"schedule": "zb2p"}, 8, "no schedule 'zb2p'; did you mean 'zb-2p'"),
        ({"schedule": "dualpipe", "vocabulary": "vocab-1"}, 8, "does not go with the schedule dualpipe"),
    ],
)
def test_what_a_schedule_needs_is_said(degrees: dict[str, object], batch: int, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        files.from_document(scenario_text(degrees, batch))  # type: ignore[arg-type]


# Command line


def test_csv_on_the_command_line_is_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["schedule", "dualpipe-v", "--pp", "2", "--microbatches", "4", "--csv"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "order.csv"
    path.write_text(text)
    order = read_rows(text.splitlines())
    assert any(isinstance(entry, Overlapped) for entry in order[0])
    assert held_stages(order) == ((0, 3), (1, 2))
    assert main(["schedule", str(path), "--csv"]) == 0
    assert capsys.readouterr().out == text


def test_the_picture_shows_every_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "zb.png"
    arguments = ["schedule", "zb-h1", "--pp", "4", "--microbatches", "8", "--timeline", str(picture)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("F") == out.count("I") == out.count("W") == 32
    # (p - 1)(T_F + T_B - T_W) = 3 units beside 8 x 3 units of work.
    assert "27 units of time, 11.1% idle; at most 4 chunks of micro-batches held by a rank" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zbv"], "no schedule 'zbv'; did you mean 'zb-v'"),
        (["interleaved", "--microbatches", "9"], "nearest: 8 or 10"),
        (["zb-v", "--vpp", "3"], "zb-v runs 2 chunks per rank, not 3"),
        (["missing.csv"], "missing.csv"),
    ],
)
def test_a_wrong_request_is_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedule", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_whole_backward_passes_and_halves_may_be_mixed() -> None:
    kinds = {
        action.kind
        for entries in SCHEDULES["dualpipe"].order(Request(pp=4, vpp=1, num_microbatches=8))
        for action in passes(entries)
    }
    assert {OpKind.BACKWARD, OpKind.BACKWARD_INPUT, OpKind.BACKWARD_WEIGHT} <= kinds
