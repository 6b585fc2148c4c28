"""The fit of training constants rerun as a user would, on ten published rows of two files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ruamel.yaml import YAML

from simulator.calibration.training import runs
from simulator.calibration.training.document import constants_text, without_text
from simulator.calibration.training.fit import fit_training, measured_layers
from simulator.cli import main

if TYPE_CHECKING:
    from simulator.calibration.training.constants import Constant

DATA = Path(__file__).parent / "data"
CHOSEN = {
    "early": {
        "megatron-2021-t1-1.7b",
        "megatron-2021-t1-18b",
        "korthikanti-2022-t5-22b-full",
        "vtrain-multi-3p6b-tp1-dp32-pp2-mb8",
        "vtrain-multi-18p4b-tp2-dp32-pp4-mb4",
        "hagemann2023-13b-s2048-g64-tp1-pp1-mb4-ac-flash_attention2-t132394",
    },
    "others": {
        "dgxc-2411-llama31-405b-32g-bf16",
        "dgxc-2505-grok1-gb200-256g-bf16",
        "flashattention2-t1-gpt3-1.3b-s2048-flash2",
        "llmfoundry-h100-80gb-70b-s2048-g512-mb8-ga1-amp_bf16",
    },
}
"""Runs of few passes on three kinds of GPUs and seven stacks."""


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the chosen rows in the place of all published ones."""
    yaml = YAML(typ="safe")
    every = [row for path in DATA.glob("published_*.yaml") for row in yaml.load(path.read_text("utf-8"))]
    for source, chosen in CHOSEN.items():
        mine = {row["id"]: row for row in every if row["id"] in chosen}
        with (tmp_path / f"{source}.yaml").open("w", encoding="utf-8") as stream:
            yaml.dump(list(mine.values()), stream)
    monkeypatch.setattr(runs, "PUBLISHED", tmp_path)


@pytest.mark.usefixtures("rows")
def test_the_fit_can_be_rerun_keeps_to_physics_and_explains_the_runs(tmp_path: Path) -> None:
    lines: list[str] = []
    found = fit_training(lines.append)
    subjects = runs.published_runs()
    assert len(subjects) == sum(map(len, CHOSEN.values()))
    for constant, value in found.model.values.items():
        assert constant.quantity.least <= value <= constant.quantity.most
        assert 0 < found.uncertainty[constant] < 2 * constant.quantity.typical_spread + 1
        assert found.runs[constant] >= 1

    def mean_error(values: dict[Constant, float]) -> float:
        return float(np.mean([abs(run.log_error(values)) for run in subjects]))

    prior = {constant: constant.quantity.typical for constant in found.model.constants}
    assert mean_error(found.model.values) < 0.8 * mean_error(prior)
    assert {run.source for run in [*subjects, *measured_layers()]} == set(found.without)
    assert all(math.isfinite(value) for values in found.without.values() for value in values.values())

    folder = tmp_path / "again"
    folder.mkdir()
    assert main(["calibrate", "training", "--output", str(folder)]) == 0
    assert (folder / "training.yaml").read_text("utf-8") == constants_text(found)
    assert (folder / "leave_one_out.yaml").read_text("utf-8") == without_text(found)
