"""The page on extending the package, done: its files are put into a copy, nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import simulator

PACKAGE = Path(simulator.__file__).parent
PAGE = (PACKAGE / "EXTENDING.md").read_text("utf-8")
FILES: dict[str, str] = dict(re.findall(r"```\w+\n# (simulator/\S+)\n(.*?)```", PAGE, re.DOTALL))
LINES: dict[str, str] = dict(re.findall(r"```python\n# into (simulator/\S+)\n(.*?)```", PAGE, re.DOTALL))
SCENARIO = """
cluster: {gpu: %s, gpus: 64, network: roce-400g}
model: %s
parallelism: {tp: 8, pp: 4, schedule: %s}
training: {seq_length: 4096, global_batch_size: 32}
"""
NEW = ("x200-96gb", "tiny-moe", "one-by-one")
OLD = ("h100-80gb-sxm", "llama3-8b", "1f1b")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the package and the files of the page."""
    folder = copy(tmp_path_factory.mktemp("extended"))
    for path, text in FILES.items():
        assert not (folder / path).exists()
        (folder / path).write_text(text, "utf-8")
    return folder


def copy(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "measurements")
    shutil.copytree(PACKAGE, folder / "simulator", ignore=ignored)
    return folder


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(folder: Path, names: tuple[str, str, str]) -> dict[str, object]:
    scenario = folder / "scenario.yaml"
    scenario.write_text(SCENARIO % names)
    result: dict[str, object] = json.loads(python(folder, "-m", "simulator", "run", str(scenario), "--json"))
    return result


def test_the_page_shows_one_file_of_each_kind() -> None:
    folders = {str(Path(path).parent).removeprefix("simulator/") for path in FILES}
    assert folders == {"catalogue/gpus", "catalogue/models", "schedules", "costs/algorithms"}


def test_a_new_gpu_model_and_schedule_are_simulated(extended: Path) -> None:
    result = run(extended, NEW)
    assert result["mfu_peak"] == "1200 TFLOP/s bf16 dense (x200)"
    assert isinstance(result["step_time_s"], float)
    one_by_one, usual = run(extended, NEW), run(extended, (*NEW[:2], "1f1b"))
    assert one_by_one["step_time_s"] > usual["step_time_s"]  # type: ignore[operator]


def test_they_are_listed_and_shown(extended: Path) -> None:
    assert "x200" in python(extended, "-m", "simulator", "list", "gpus")
    assert "one-by-one" in python(extended, "-m", "simulator", "list", "schedules")
    assert "0F0,0B0,0F1,0B1" in python(
        extended, "-m", "simulator", "schedule", "one-by-one", "--pp", "2", "--microbatches", "2", "--csv"
    )


def test_a_new_line_of_a_stack_is_stated_and_explained(tmp_path: Path) -> None:
    """The file's key, its unit, its source, its default with a reason and its sentence come from the line."""
    code = (
        "from simulator import catalogue, files\n"
        "from simulator.documents import parse, validate\n"
        "def stack(text):\n"
        "    entry = validate(parse('{like: megatron-core, ' + text + '}'), catalogue.SoftwareEntry)\n"
        "    software = entry.to_scenario('mine')\n"
        "    return software.checkpoint_stall_s, software.sources['checkpoint_stall_s'].source\n"
        "print(stack('checkpoint_stall: {value: 20 ms, source: my own log}'))\n"
        "print(stack('bucket: 1 MB'))\n"
        "fields = files.json_schema()['$defs']['SoftwareEntry']['properties']\n"
        "print(fields['checkpoint_stall']['description'])\n"
    )
    folder = copy(tmp_path)
    for path, lines in LINES.items():
        text = (folder / path).read_text("utf-8")
        (folder / path).write_text(
            text.replace("    sources: Sources", lines + "    sources: Sources"), "utf-8"
        )
    assert LINES.keys() == {"simulator/scenario/software.py"}
    assert python(folder, "-c", code).splitlines() == [
        "(0.02, 'my own log')",
        "(0.0, 'checkpoints are written beside the next step')",
        "Time of a step in which ranks wait for their checkpoint to be copied.",
    ]


def test_the_cheapest_algorithm_runs_and_others_are_as_before(extended: Path) -> None:
    code = (
        "from simulator import catalogue\n"
        "from simulator.costs.collectives import collective_cost\n"
        "from simulator.scenario import Cluster\n"
        "from simulator.workload.work import Collective, Group\n"
        "gpu = catalogue.gpu('h100')\n"
        "cluster = Cluster(gpu=gpu, gpus=8, gpus_per_node=8, scale_up_domain=8,"
        " network=catalogue.network('roce-400g'))\n"
        "for kind in ('all_gather', 'reduce_scatter'):\n"
        "    work = Collective(kind=kind, group=Group(axis='tp', size=8, stride=1), bytes=1e6)\n"
        "    print(collective_cost(work, cluster).algorithm)\n"
    )
    assert python(extended, "-c", code).splitlines()[0] == "direct"
    assert python(PACKAGE.parent, "-c", code).splitlines() != python(extended, "-c", code).splitlines()


def test_nothing_else_changes(extended: Path) -> None:
    """Without tensor parallelism nothing is gathered inside a domain: the new algorithm has no part in it."""
    scenario = SCENARIO.replace("tp: 8", "tp: 1")
    (extended / "old.yaml").write_text(scenario % OLD)
    mine = python(extended, "-m", "simulator", "run", str(extended / "old.yaml"), "--json")
    before = python(PACKAGE.parent, "-m", "simulator", "run", str(extended / "old.yaml"), "--json")
    assert json.loads(mine) == json.loads(before)
