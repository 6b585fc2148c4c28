"""What a search or a Monte Carlo run does not use, it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulator.cli import main

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
cluster: {gpu: h100-80gb-sxm, gpus: 16, network: rail-optimised-400g}
model: llama3-8b
parallelism: {tp: 2, dp: 8, cp_balance: false}
training: {seq_length: 1024, global_batch_size: 32}
simulation: {engine: event, seed: 4, noise: {expert_imbalance: 0.2, stragglers: [{gpus: [1]}]}}
search: {free: {tp: [2, 4], mbs: [1]}, top: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT)
    return str(path)


@pytest.mark.parametrize(
    ("verb", "paths"),
    [
        (["search"], ["simulation.seed", "simulation.noise", "simulation.engine", "parallelism.dp = 8"]),
        (
            ["montecarlo", "--steps", "2"],
            [
                "simulation.engine",
                "simulation.noise.expert_imbalance",
                "simulation.noise.stragglers.0",
                "all 2 steps are the same",
            ],
        ),
    ],
    ids=["search", "montecarlo"],
)
def test_settings_without_effect_warn_once(
    verb: list[str], paths: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, file]) == 0
    found = capsys.readouterr().err.splitlines()
    for start in (*paths, "parallelism.cp_balance has no effect"):
        assert sum(line.startswith(f"warning: {start}") for line in found) == 1, (start, found)
    assert len(found) == len(paths) + 1


def test_a_plain_file_and_its_usual_search_warn_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "\n".join(TEXT.splitlines()[:3]) + "\ntraining: {seq_length: 4096, global_batch_size: 32}\n"
    )
    assert main(["search", str(path), "--top", "2", "--fix", "pp"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "FILE", "--csv", "-", "--json"], "both go to stdout"),
        (["search", "FILE", "--csv", "-", "--json"], "both go to stdout"),
        (["search", "FILE", "--free", "pp", "--fix", "pp"], "the opposite of parallelism.pp"),
        (
            ["search", "FILE", "--free", "simulation.engine=event,compiled"],
            "nothing that a search can choose",
        ),
        (
            ["search", "FILE", "--backend", "dask:tcp://head:1", "--jobs", "2"],
            "--jobs counts local processes",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: list[str], words: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([file if word == "FILE" else word for word in arguments]) == 2
    assert words in capsys.readouterr().err


def test_an_option_that_a_sweep_varies_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    plain = TEXT.partition("parallelism:")[0] + "training: {seq_length: 4096, global_batch_size: 32}\n"
    path.write_text(plain + "sweep: {parameters: {parallelism.tp: [1, 2]}}\n")
    assert main(["sweep", str(path), "--tp", "4", "--pp", "2"]) == 0
    assert "warning: parallelism.tp has no effect: the sweep varies it\n" in capsys.readouterr().err
    assert main(["sweep", str(path), "--shard", "3/3"]) == 2
    assert "there are only 2 points to share" in capsys.readouterr().err


def test_monte_carlo_says_that_a_job_does_not_fit(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["montecarlo", file, "--steps", "1", "--tp", "1", "--dp", "auto", "--seq", "131072"]) == 0
    assert "warning: does not fit: " in capsys.readouterr().err
