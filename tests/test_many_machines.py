"""A sweep gives the same table wherever it runs, and what was finished is never lost or repeated."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from clusters import dask_cluster, free_port, ray_cluster, ray_environment

from simulator import load, sweep
from simulator.cli import main
from simulator.errors import InputError, SimulationError
from simulator.explore.execute import Backend, execute
from simulator.explore.search.local_workers import Processes
from simulator.explore.shard import Shard
from simulator.explore.store import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.explore import SweepTable

POINTS = 24
TEXT = f"""
name: layouts of a small model
cluster: {{gpu: h100-80gb-sxm, gpus: 16, network: rail-optimised-400g}}
model: {{name: tiny, num_hidden_layers: 4, hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 4,
        intermediate_size: 512, vocab_size: 1024}}
parallelism: {{tp: 1, pp: 2}}
training: {{seq_length: 128, micro_batch_size: 1, global_batch_size: 96, precision: bf16}}
software: megatron-core
sweep:
  parameters:
    training.seq_length: {[128 * n for n in range(1, POINTS // 2 + 1)]}
    parallelism.tp: [1, 3]
  x: training.seq_length
"""
SLOW = """
import sys, time
from simulator import load, sweep
from simulator.explore import point
fast = point.api.simulate
def slow(*arguments, **options):
    time.sleep(0.1)
    return fast(*arguments, **options)
point.api.simulate = slow
sweep(load(sys.argv[1]), store=sys.argv[2])
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "sweep.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def serial(file: Path) -> SweepTable:
    return sweep(load(file))


def test_serial_table_has_possible_and_impossible_points(serial: SweepTable) -> None:
    assert len(serial.points) == POINTS
    assert sum(point.result is None for point in serial.points) == POINTS // 2


def test_local_processes_give_the_same_table(file: Path, serial: SweepTable) -> None:
    assert sweep(load(file), backend=Backend(jobs=2)) == serial


def test_killed_sweep_goes_on_where_it_was(file: Path, serial: SweepTable, tmp_path: Path) -> None:
    """After kill -9 what was written is there, is taken as it is, and the rest alone is simulated."""
    path = tmp_path / "runs.sqlite"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(file), str(path)])
    while _rows(path) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _written(path)
    assert 3 <= len(before) < POINTS
    lines: list[str] = []
    assert sweep(load(file), store=path, progress=lines.append) == serial
    assert lines[0] == f"{len(before)} of {POINTS} points are in the store"
    assert len(lines) == 1 + POINTS - len(before)
    after = _written(path)
    assert len(after) == POINTS
    assert before.items() <= after.items()


def test_three_processes_write_one_store(file: Path, serial: SweepTable, tmp_path: Path) -> None:
    """The shards of a job array fill one store; the whole sweep then simulates nothing."""
    path = tmp_path / "runs.sqlite"
    command = [sys.executable, "-m", "simulator", "sweep", str(file), "--store", str(path)]
    shards = [
        subprocess.Popen([*command, "--shard", f"{number}/3"], stdout=subprocess.DEVNULL)
        for number in (1, 2, 3)
    ]
    assert [shard.wait() for shard in shards] == [0, 0, 0]
    lines: list[str] = []
    assert sweep(load(file), store=path, progress=lines.append) == serial
    assert lines == [f"{POINTS} of {POINTS} points are in the store"]


def test_shards_are_a_partition(file: Path, serial: SweepTable) -> None:
    parts = [sweep(load(file), shard=Shard(number, 3)).points for number in (1, 2, 3)]
    together = [parts[index % 3][index // 3] for index in range(POINTS)]
    assert tuple(together) == serial.points


def test_another_scenario_or_setting_is_another_record(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    sweep(load(file), store=path, shard=Shard(1, 8))
    sweep(load(file, overrides=["parallelism.pp=1"]), store=path, shard=Shard(1, 8))
    assert _rows(path) == 2 * POINTS // 8


def test_dask_workers_of_their_own_one_killed_midway(file: Path, serial: SweepTable, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path) as (address, (_, worker, _)):
        backend, points = Backend.parse(f"dask:{address}"), {}
        for number, value in execute(_slow_square, list(range(12)), backend):
            points[number] = value
            if len(points) == 2:
                worker.kill()
        assert points == {n: n * n for n in range(12)}
        assert sweep(load(file), backend=backend) == serial


def test_what_goes_wrong_on_a_dask_worker_is_an_error_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path) as (address, (scheduler, *_)):
        backend = Backend.parse(f"dask:{address}")
        with pytest.raises(SimulationError, match="ZeroDivisionError"):
            list(execute(_inverse, [1, 0], backend))
        monkeypatch.setattr("simulator.explore.execute.version", lambda: "another")
        with pytest.raises(InputError, match="here another"):
            list(execute(_inverse, [1, 2], backend))
        monkeypatch.undo()
        with pytest.raises(SimulationError, match="the cluster failed"):
            _run_and_kill(backend, scheduler)


def test_a_dask_scheduler_without_workers_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path, workers=0) as (address, _):
        begin = time.monotonic()
        with pytest.raises(InputError, match="no worker"):
            list(execute(_inverse, [1], Backend.parse(f"dask:{address}")))
        assert time.monotonic() - begin < 30


def _run_and_kill(backend: Backend, scheduler: subprocess.Popen[bytes]) -> None:
    for number, _ in execute(_slow_square, list(range(100)), backend):
        if number == 3:
            scheduler.kill()


def test_a_local_process_that_is_killed_is_an_error() -> None:
    with pytest.raises(SimulationError, match="a local process was killed"):
        list(execute(_die, [1, 2], Backend(jobs=2)))
    with Processes([], 2) as processes, pytest.raises(SimulationError, match="a local process was killed"):
        processes.map(_die_with, [1, 2])


def _die(_task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_with(_layouts: object, task: int) -> None:
    _die(task)


def test_a_single_dask_worker_is_not_passed_over(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with dask_cluster(tmp_path, workers=1) as (address, (_, worker)):
        found = list(execute(_process, [1, 2], Backend.parse(f"dask:{address}")))
    assert [process for _, process in found] == [worker.pid] * 2


def _process(_task: int) -> int:
    return os.getpid()


def _inverse(number: int) -> float:
    return 1 / number


def _slow_square(number: int) -> int:
    time.sleep(0.1)
    return number**2


def test_a_ray_cluster_of_its_own(file: Path, serial: SweepTable, tmp_path: Path) -> None:
    """The command line as a process of its own, too: Ray reads its settings once."""
    pytest.importorskip("ray")
    environment = ray_environment()
    with ray_cluster(tmp_path, environment) as address:
        command = [sys.executable, "-m", "simulator", "sweep", str(file), "--backend", f"ray:{address}"]
        done = subprocess.run(
            [*command, "--csv", "-"], check=False, capture_output=True, text=True, env=environment
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == serial.to_csv()


@pytest.mark.filterwarnings("ignore")
def test_nobody_answers_at_once_where_there_is_no_ray_cluster(file: Path) -> None:
    pytest.importorskip("ray")
    begin = time.monotonic()
    with pytest.raises(InputError, match="no cluster answers"):
        sweep(load(file), backend=Backend.parse(f"ray:127.0.0.1:{free_port()}"))
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("text", ["dusk:tcp://head:1", "dask", "local:1", "ray"])
def test_wrong_backends_say_what_is_right(text: str) -> None:
    with pytest.raises(InputError, match="--backend"):
        Backend.parse(text)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b"])
def test_wrong_shards_say_what_is_right(text: str) -> None:
    with pytest.raises(InputError, match="i/n"):
        Shard.parse(text)


def test_a_file_that_is_no_store_is_left_alone(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to be mistaken for one " * 20)
    before = path.read_bytes()
    assert main(["sweep", str(file), "--store", str(path)]) == 2
    assert "store" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_parquet_holds_the_table(file: Path, serial: SweepTable, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "sweep.parquet"
    assert main(["sweep", str(file), "--parquet", str(path), "--csv", str(tmp_path / "sweep.csv")]) == 0
    read = parquet.read_table(path).to_pylist()
    assert [row["step_time_s"] for row in read] == [row["step_time_s"] for row in serial.rows()]
    assert [row["problem"] for row in read] == [row["problem"] for row in serial.rows()]


def test_a_store_keeps_the_first_record(tmp_path: Path) -> None:
    with RunStore(tmp_path / "runs.sqlite") as store:
        store.put("key", "name", "first")
        store.put("key", "name", "second")
        assert store.known(["key", "other"]) == {"key": "first"}
        assert len(store) == 1


def _rows(path: Path) -> int:
    try:
        return len(_written(path))
    except sqlite3.Error:
        return 0


def _written(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    connection = sqlite3.connect(path)
    try:
        return dict(connection.execute("SELECT key, created FROM runs"))
    finally:
        connection.close()


def test_many_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    """SQLite refuses, whatever its timeout, where several change the journal of a new file together."""
    problems: list[Exception] = []

    def opened(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            with RunStore(path):
                pass
        except InputError as error:
            problems.append(error)

    for number in range(80):
        together = threading.Barrier(8)
        store = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=opened, args=(store, together)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems
