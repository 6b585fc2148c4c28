"""Steps that were finished are never lost or repeated, whoever simulates them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from simulator import load
from simulator.cli import main
from simulator.explore.montecarlo import monte_carlo

if TYPE_CHECKING:
    from pathlib import Path

STEPS, CHUNKS, GPUS = 70, 7, 2
TEXT = """
name: noisy
cluster: {gpu: h100-80gb-sxm, gpus: 8}
model: {name: tiny, num_hidden_layers: 4, hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 4,
        intermediate_size: 512, vocab_size: 1024}
parallelism: {tp: 2, pp: 2}
training: {seq_length: 128, micro_batch_size: 1, global_batch_size: 8, precision: bf16}
simulation:
  noise: {speed_spread: 0, kernel_jitter: 0.03, stragglers: [{gpus: [6], slowdown: 1.4}]}
"""
SLOW = """
import sys, time
from simulator.cli import main
from simulator.explore.montecarlo import steps
fast = steps.run_replicas
def slow(*arguments, **options):
    time.sleep(0.01)
    return fast(*arguments, **options)
steps.run_replicas = slow
main(["montecarlo", sys.argv[1], "--steps", sys.argv[2], "--store", sys.argv[3]])
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("noisy") / "noisy.yaml"
    path.write_text(TEXT)
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], file: str, *options: str) -> str:
    assert main(["montecarlo", file, "--steps", str(STEPS), "--json", *options]) == 0
    return capsys.readouterr().out


def written(path: Path) -> dict[str, str]:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return dict(connection.execute("SELECT key, created FROM runs"))
        finally:
            connection.close()
    except sqlite3.Error:
        return {}


def test_a_killed_run_goes_on_where_it_was(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 what was written is taken as it is; the answer is that of a run never killed."""
    path = tmp_path / "runs.sqlite"
    command = [sys.executable, "-c", SLOW, file, str(STEPS), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(written(path)) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = written(path)
    assert 3 <= len(before) < CHUNKS * GPUS
    assert answer(capsys, file, "--store", str(path)) == answer(capsys, file)
    after = written(path)
    assert len(after) == CHUNKS * GPUS
    assert before.items() <= after.items()
    monkeypatch.setattr("simulator.explore.montecarlo.run.simulate_steps", None)  # nothing is left to do
    assert answer(capsys, file, "--store", str(path))


def test_a_longer_run_begins_with_the_shorter_one(file: str, tmp_path: Path) -> None:
    path, scenario = tmp_path / "runs.sqlite", load(file)
    monte_carlo(scenario, steps=20, store=path)
    assert len(written(path)) == 2 * GPUS
    longer = monte_carlo(scenario, steps=40, store=path)
    assert len(written(path)) == 4 * GPUS
    assert longer.to_dict() == monte_carlo(scenario, steps=40).to_dict()


def test_a_job_array_fills_one_store(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part says what its own steps say, and together they leave nothing to do."""
    store = ("--store", str(tmp_path / "runs.sqlite"))
    parts = [json.loads(answer(capsys, file, *store, "--shard", f"{number}/3")) for number in (1, 2, 3)]
    whole = answer(capsys, file)
    drawn = json.loads(whole)["step_times_s"]
    chunks = [drawn[first : first + 10] for first in range(0, STEPS, 10)]
    for number, part in enumerate(parts):
        assert part["step_times_s"] == [seconds for chunk in chunks[number::3] for seconds in chunk]
    monkeypatch.setattr("simulator.explore.montecarlo.run.simulate_steps", None)
    assert answer(capsys, file, *store) == whole


def test_more_parts_than_steps_are_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["montecarlo", file, "--steps", "20", "--shard", "3/3"]) == 2
    assert "--shard 3/3: there are only 2 parts of 10 steps" in capsys.readouterr().err
