"""The command line: what goes where, exit codes, and files that appear whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import api, catalogue
from simulator.cli import main
from simulator.cli.application import _VERBS
from simulator.errors import DeadlockError

Capture = pytest.CaptureFixture[str]
SCENARIO = """\
name: small
cluster: {gpu: h100-80gb-sxm, gpus: 16, network: h100-rail-400g}
model: llama3-8b
parallelism: {tp: 2, pp: 4, sharding: zero1}
training: {seq_length: 4096, micro_batch_size: 1, global_batch_size: 16, precision: bf16}
sweep:
  parameters: {parallelism.tp: [2, 3, 4]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    network = next(name for name in catalogue.names("network") if "rail" in name)
    path.write_text(SCENARIO.replace("h100-rail-400g", network))
    return str(path)


@pytest.fixture
def no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(_scenario: object) -> None:
        pytest.fail("simulated although the request was wrong")

    monkeypatch.setattr(api, "simulate", simulate)


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


# run


def test_run_takes_the_engine_from_the_command_line_and_says_what_it_leaves_out(
    capsys: Capture, file: str
) -> None:
    seconds, says = {}, {}
    for engine in ("event", "compiled"):
        code, out, err = call(capsys, "run", file, "--engine", engine, "--json")
        assert code == 0
        seconds[engine], says[engine] = json.loads(out)["step_time_s"], "transfers share links" in err
    assert not says["event"]
    assert says["compiled"] or seconds["compiled"] == pytest.approx(seconds["event"], rel=1e-9)
    assert call(capsys, "run", file, "--engine", "abacus")[0] == 2


def test_run_prints_the_answer_and_nothing_else_to_stdout(capsys: Capture, file: str) -> None:
    code, out, err = call(capsys, "run", file)
    assert (code, err) == (0, "")
    assert out.startswith("small\n16 x h100-80gb-sxm, tp 2, pp 4, dp 2, 1f1b, zero1, bf16, megatron-core\n")
    assert "TFLOP/s per GPU" in out
    assert out == "\n".join(line.rstrip() for line in out.splitlines()) + "\n"


def test_run_json_has_the_stable_keys(capsys: Capture, file: str) -> None:
    code, out, _ = call(capsys, "run", file, "--json")
    answer = json.loads(out)
    assert code == 0
    stable = {
        "step_time_s",
        "tflops_per_gpu",
        "mfu",
        "tokens_per_s_per_gpu",
        "breakdown_s",
        "memory",
        "warnings",
    }
    assert stable <= answer.keys()
    assert sum(answer["breakdown_s"].values()) == pytest.approx(answer["step_time_s"], rel=1e-12)


def test_run_shortcuts_are_settings(capsys: Capture, file: str) -> None:
    short = call(
        capsys, "run", file, "--json", "--tp", "4", "--mbs", "2", "--seq", "2048", "--gpu", "a100-80gb-sxm"
    )
    long = (
        "parallelism.tp=4",
        "training.micro_batch_size=2",
        "training.seq_length=2048",
        "cluster.gpu=a100-80gb-sxm",
    )
    spelled = call(capsys, "run", file, "--json", *(word for text in long for word in ("--set", text)))
    assert short == spelled
    assert short != call(capsys, "run", file, "--json")


def test_run_puts_warnings_on_stderr(capsys: Capture, file: str) -> None:
    code, out, err = call(capsys, "run", file, "--json", "--seq", "131072", "--gbs", "32", "--mbs", "2")
    assert code == 0
    assert json.loads(out)["memory"]["fits"] is False
    assert err.startswith("warning: does not fit: ")


def test_run_writes_trace_and_timeline(capsys: Capture, file: str, tmp_path: Path) -> None:
    trace, picture = tmp_path / "trace.json.gz", tmp_path / "timeline.png"
    code, out, err = call(capsys, "run", file, "--trace", str(trace), "--timeline", str(picture))
    assert code == 0
    assert "small" in out
    assert err == f"open {trace} at https://ui.perfetto.dev\n"
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.yaml", "timeline.png", "trace.json.gz"]


def test_run_reads_standard_input(capsys: Capture, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Path(file).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert call(capsys, "run", "-")[:2] == call(capsys, "run", file)[:2]


# Wrong requests


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--trace", "missing/t.json", "no folder"),
        ("--trace", "t.txt", "must end in .json or .json.gz"),
        ("--timeline", "t.gif", "must end in .png or .pdf or .svg"),
        ("--timeline", "small.yaml/t.png", "is not a folder"),
        ("--timeline", "folder.png", "is a folder"),
    ],
)
@pytest.mark.usefixtures("no_simulation")
def test_run_checks_output_before_it_simulates(
    capsys: Capture, file: str, option: str, name: str, message: str
) -> None:
    folder = Path(file).parent
    (folder / "folder.png").mkdir()
    code, out, err = call(capsys, "run", file, option, str(folder / name))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], 'Did you mean "run"?'),
        (["run"], "requires an argument"),
        (["run", "FILE", "--tpp", "4"], "Did you mean --tp?"),
        (["run", "FILE", "--tp", "3"], "tp"),
        (["run", "FILE", "--set", "parallelism.tpp=3"], "did you mean 'parallelism.tp'?"),
        (["run", "FILE", "--set", "parallelism.tp"], "expected path=value"),
        (["run", "missing.yaml"], "missing.yaml"),
        (["check", "missing.yaml"], "missing.yaml"),
        (["sweep", "missing.yaml"], "missing.yaml"),
        (["validate", "missing.jsonl"], "missing.jsonl"),
        (["list", "gpu"], "gpus"),
        (["show", "h100-80gb-smx"], "did you mean 'h100-80gb-sxm'?"),
    ],
)
def test_wrong_request_is_one_message_and_exit_code_2(
    capsys: Capture, file: str, arguments: list[str], message: str
) -> None:
    code, out, err = call(capsys, *(file if word == "FILE" else word for word in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_failing_simulation_leaves_no_file(
    capsys: Capture, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(_scenario: object) -> None:
        raise DeadlockError("pp 0 waits for pp 1")

    monkeypatch.setattr(api, "simulate", simulate)
    trace = Path(file).with_name("t.json")
    assert call(capsys, "run", file, "--trace", str(trace)) == (1, "", "error: pp 0 waits for pp 1\n")
    assert not trace.exists()


def test_interrupt_is_quiet(capsys: Capture, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(_scenario: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "simulate", simulate)
    assert call(capsys, "run", file) == (130, "", "")


# check


def test_check_prints_sizes_and_memory(capsys: Capture, file: str) -> None:
    code, out, err = call(capsys, "check", file)
    assert (code, err) == (0, "")
    assert "8.03 billion parameters" in out
    assert "2 replicas x 8 micro-batches of 1 sequence" in out
    assert "fits: " in out
    sizes = json.loads(call(capsys, "check", file, "--json")[1])
    assert sizes["parameters"] == 8_030_261_248
    assert (sizes["dp"], sizes["num_microbatches"], sizes["tokens_per_step"]) == (2, 8, 65536)
    assert sizes["stage_layers"] == [8, 8, 8, 8]
    assert [rank["name"] for rank in sizes["memory"]["ranks"]] == ["pp 0", "pp 1", "pp 2", "pp 3"]


def test_check_exit_code_says_whether_it_fits(capsys: Capture, file: str) -> None:
    code, out, _ = call(capsys, "check", file, "--seq", "131072")
    assert code == 1
    assert "does not fit: " in out


def test_check_resolved_reads_back_as_the_same_scenario(capsys: Capture, file: str, tmp_path: Path) -> None:
    code, out, _ = call(capsys, "check", file, "--resolved", "--tp", "4")
    assert code == 0
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert call(capsys, "run", str(again), "--json") == call(capsys, "run", file, "--json", "--tp", "4")


# sweep


def test_sweep_writes_table_csv_json_and_curve(capsys: Capture, file: str, tmp_path: Path) -> None:
    table, curve = tmp_path / "t.csv", tmp_path / "c.svg"
    code, out, err = call(capsys, "sweep", file, "--csv", str(table), "--plot", str(curve))
    assert (code, err) == (0, "warning: parallelism.sharding has no effect: dp x cp is 1 (1 of 3 points)\n")
    assert "not possible (1)" in out
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["tp"] for row in rows] == ["2", "3", "4"]
    assert [bool(row["problem"]) for row in rows] == [False, True, False]
    assert curve.read_text().startswith("<?xml")
    code, out, _ = call(capsys, "sweep", file, "--json")
    assert [row["tflops_per_gpu"] for row in json.loads(out)["rows"]] == [
        pytest.approx(float(row["tflops_per_gpu"])) if row["tflops_per_gpu"] else None for row in rows
    ]
    assert call(capsys, "sweep", file, "--csv", "-")[1] == table.read_text()


def test_a_sweep_over_no_metric_is_refused_before_anything_runs(capsys: Capture, file: str) -> None:
    code, out, err = call(capsys, "sweep", file, "--set", "sweep.y=mfuu")
    assert (code, out) == (2, "")
    assert "sweep.y: 'mfuu' is no metric; did you mean 'mfu'?" in err


# validate


def test_validate_prints_predicted_beside_published(capsys: Capture, tmp_path: Path) -> None:
    rows = str(Path(__file__).parent / "data" / "published_rows.yaml")
    picture = tmp_path / "v.svg"
    code, out, err = call(capsys, "validate", rows, "--limit", "3", "--plot", str(picture))
    assert (code, err) == (0, "")
    assert "published" in out
    assert picture.stat().st_size > 5000
    report = json.loads(call(capsys, "validate", rows, "--limit", "3", "--json")[1])
    assert {"summary", "rows"} <= report.keys()
    assert len(report["rows"]) == 3
    assert {"id", "metric", "predicted", "published", "error", "skipped"} <= report["rows"][0].keys()


# The catalogue


@pytest.mark.parametrize("kind", ["gpus", "networks", "models", "software"])
def test_list_names_what_show_shows(capsys: Capture, kind: str) -> None:
    code, out, err = call(capsys, "list", kind)
    assert (code, err) == (0, "")
    names = out.split()
    assert tuple(names) == catalogue.names(kind)
    assert json.loads(call(capsys, "list", kind, "--json")[1]) == names
    code, out, err = call(capsys, "show", names[0])
    assert (code, err) == (0, "")
    assert "Sources" in out


def test_list_schedules(capsys: Capture) -> None:
    assert {"1f1b", "interleaved"} <= set(call(capsys, "list", "schedules")[1].split())


def test_show_gives_kind_and_source_of_every_number(capsys: Capture) -> None:
    numbers = json.loads(call(capsys, "show", "h100", "--json")[1])
    assert {number["kind"] for number in numbers} <= {"datasheet", "measured", "fitted", "assumed"}
    assert all(number["source"] for number in numbers)
    assert "gpu h100-80gb-sxm\n" in call(capsys, "show", "H100")[1]


def test_schema_is_a_strict_json_schema(capsys: Capture) -> None:
    code, out, err = call(capsys, "schema")
    schema = json.loads(out)
    assert (code, err) == (0, "")
    assert {"cluster", "model", "parallelism", "training", "sweep", "measured"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


# The process


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help(capsys: Capture, verb: str) -> None:
    code, out, err = call(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert f"simulator {verb}" in out


# What a verb may not import: compilers, drawing and fitting that it does not use.
_NEVER = frozenset(
    {"numba", "matplotlib", "scipy", "ruamel", "torch", "pyarrow", "joblib", "distributed", "ray"}
)
_HEAVY = _NEVER | {"numpy", "pydantic", "simpy", "yaml"}


@pytest.mark.parametrize(
    ("verb", "excluded"),
    [
        (["run", "FILE"], _NEVER),
        (["run", "FILE", "--json"], _NEVER),
        (["check", "FILE"], _NEVER),
        (["check", "FILE", "--resolved"], _NEVER),
        (["list", "gpus"], _NEVER | {"simpy"}),
        (["show", "h100"], _NEVER | {"simpy", "numpy"}),
        (["--help"], _HEAVY),
    ],
    ids=lambda words: " ".join(sorted(words)),
)
def test_a_verb_imports_only_what_it_needs(verb: list[str], excluded: frozenset[str], file: str) -> None:
    arguments = [file if word == "FILE" else word for word in verb]
    program = (
        f"import sys; from simulator.cli import main; main({arguments!r})\n"
        "print('modules', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *shown, modules = done.stdout.splitlines()
    assert shown
    assert not excluded & set(modules.split())


def test_numpy_starts_no_threads_on_the_command_line(file: str) -> None:
    """Its matrix library would start one for every core; whoever wants them says so in the environment."""
    program = (
        f"import os; from simulator.cli import main; main(['check', {file!r}])\n"
        "print('threads', len(os.listdir('/proc/self/task')), os.environ['OPENBLAS_NUM_THREADS'])"
    )
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted where there is /proc")
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    for asked, threads in ((None, ["threads 1 1"]), ("2", ["threads 1 2", "threads 2 2"])):
        given = environment if asked is None else environment | {"OPENBLAS_NUM_THREADS": asked}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=given
        )
        assert done.stdout.splitlines()[-1] in threads


def test_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "list", "gpus"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
