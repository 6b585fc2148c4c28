"""A search finds the same on whichever machines it runs, also where one of them dies."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from clusters import dask_cluster, ray_cluster, ray_environment

from simulator import load, search
from simulator.explore.execute import Backend
from simulator.explore.search import remote_workers

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.explore.search import SearchTable

TEXT = """
name: layouts of a small model
cluster: {gpu: a100-40gb-sxm, gpus: 16, network: fat-tree-100g}
model: {num_hidden_layers: 8, hidden_size: 4096, num_attention_heads: 32, num_key_value_heads: 8,
        intermediate_size: 14336, vocab_size: 32000}
training: {seq_length: 2048, global_batch_size: 32}
search: {top: 5, front: memory, free: {tp: auto, pp: auto, mbs: auto, recompute: auto, gpus: [8, 16]}}
"""
SUICIDAL = """
import os, signal
from simulator.explore.search import remote_workers
if remote_workers._run.__name__ == "_run":  # Dask imports this twice
    usual, tasks = remote_workers._run, []
    def run(task):
        tasks.append(task)
        if len(tasks) == 3:
            try:
                os.close(os.open({marker!r}, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return usual(task)
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(task)
    remote_workers._run = run
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "search.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def serial(file: Path) -> dict[str, object]:
    return _content(search(load(file)))


def _content(table: SearchTable) -> dict[str, object]:
    content = table.to_dict()
    del content["elapsed_s"]
    return content


def test_local_processes_find_the_same(file: Path, serial: dict[str, object]) -> None:
    assert _content(search(load(file), backend=Backend(jobs=2))) == serial


def test_dask_workers_find_the_same_although_one_dies_in_the_middle_of_a_task(
    file: Path, serial: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(remote_workers, "_LEAST", 2)
    marker, preload = tmp_path / "died", tmp_path / "preload.py"
    preload.write_text(SUICIDAL.format(marker=str(marker)))
    with dask_cluster(tmp_path, "--preload", str(preload)) as (address, (_, *workers)):
        found = search(load(file), backend=Backend.parse(f"dask:{address}"))
        assert marker.exists()
        assert [worker.poll() for worker in workers].count(None) == 1
    assert _content(found) == serial


def test_a_ray_cluster_finds_the_same(file: Path, serial: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    environment = ray_environment()
    with ray_cluster(tmp_path, environment) as address:
        command = [sys.executable, "-m", "simulator", "search", str(file), "--backend", f"ray:{address}"]
        done = subprocess.run(
            [*command, "--json"], check=False, capture_output=True, text=True, env=environment
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    del found["elapsed_s"]
    assert found == json.loads(json.dumps(serial))
