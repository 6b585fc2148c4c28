"""Every wrong file gives one clear error, quickly; the files say in their first line what to expect."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from simulator import files
from simulator.errors import InputError, ScenarioError

FOLDER = Path(__file__).parent / "bad_input"
GOOD = ["name: good", "cluster: {gpu: h100-80gb-sxm, gpus: 64}", "model: llama3-8b"]
GOOD += ["training: {seq_length: 8192, global_batch_size: 128}"]
CONFIG = '{"hidden_size": %s, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 8%s}'


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_wrong_file_is_explained(path: Path) -> None:
    expected = re.match(r"# expect (\d+): (.*)\n", path.read_text("utf-8"))
    assert expected
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        files.load(path)
    assert time.process_time() - start < 2
    assert re.search(expected[2], str(caught.value))
    assert isinstance(caught.value, ScenarioError)
    for problem in caught.value.problems:
        assert str(path) in str(problem)
    lines = {problem.line for problem in caught.value.problems if re.search(expected[2], str(problem))}
    assert lines == {int(expected[1])}


def test_there_are_enough_wrong_files() -> None:
    assert len(list(FOLDER.glob("*.yaml"))) >= 45


def explain(path: Path | str) -> str:
    with pytest.raises(ScenarioError) as caught:
        files.load(path)
    return str(caught.value)


def test_things_that_are_no_scenario_file(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "latin.yaml").write_bytes(b"name: x\ncluster: caf\xe9\n")
    (tmp_path / "huge.yaml").write_text("a: 1\n" * 300_000)
    (tmp_path / "wide.yaml").write_text("a: [" + "1," * 30_000 + "1]\n")
    (tmp_path / "scenario.yaml").write_text("\n".join(GOOD))
    assert "binary file" in explain(tmp_path / "binary.yaml")
    assert "latin.yaml:2:13: is not UTF-8 text: byte 0xe9" in explain(tmp_path / "latin.yaml")
    assert "larger than 256 KiB" in explain(tmp_path / "huge.yaml")
    assert "more than 20000 values" in explain(tmp_path / "wide.yaml")
    assert "is a directory" in explain(tmp_path)
    assert "no such file; did you mean 'scenario.yaml'?" in explain(tmp_path / "scenari.yaml")
    assert "no such file" in explain(tmp_path / "no" / "such" / "folder.yaml")
    assert "is not a file name" in explain("a\0b")
    assert "cannot be read" in explain("x" * 5000)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("\n".join(GOOD))
    path.chmod(0)
    assert "cannot be read: Permission denied" in explain(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("parallelism.tp", "expected path=value"),
        ("=4", "expected path=value"),
        ("parallelism.tpp=4", "'parallelism.tpp' is not a setting; did you mean 'parallelism.tp'"),
        ("tp=4", "'tp' is not a setting; did you mean 'parallelism.tp'"),
        ("parallelism.tp=four", "parallelism.tp: expected a whole number, got 'four'"),
        ("parallelism.tp=[", "not valid YAML"),
        ("parallelism=4", "expected a mapping, got 4"),
        ("model.hidden_size=8", "model is the name 'llama3-8b'"),
        ("cluster.gpu=h1000", "no GPU 'h1000'"),
        ("training.tokens.x=4", "'training.tokens.x' is not a setting"),
    ],
)
def test_a_wrong_override_is_explained(override: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("\n".join(GOOD))
    with pytest.raises(ScenarioError) as caught:
        files.load(path, [override])
    assert expected in str(caught.value)
    assert override in str(caught.value)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    text = "\n".join(GOOD).replace("h100-80gb-sxm", "h1O0").replace("8192", "'8192'")
    path.write_text(text + "\nparalelism: {}\nsoftware: {}")
    for expected in ("no GPU 'h1O0'", "got '8192'", "did you mean 'parallelism'", "software.attention"):
        assert expected in explain(path)
    path.write_text("\n".join(GOOD).replace("128", "130") + "\nparallelism: {tp: 64, ep: 2}")
    for expected in ("tp = 64 does not divide", "has no experts"):
        assert expected in explain(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe{", "is not UTF-8"),
        (b"[1, 2]", "expected a JSON mapping"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"{}", "the key 'hidden_size' (or n_embd, d_model) is missing"),
        (
            (CONFIG % ('"wide"', ', "vocab_size": 9')).encode(),
            "hidden_size: expected a whole number of 1 or more",
        ),
        ((CONFIG % ("8", "")).encode(), "vocab_size: the key 'vocab_size' is missing"),
        ((CONFIG % ("9", ', "vocab_size": 9')).encode(), "head_dim: is missing, and hidden_size 9"),
        ((CONFIG % ("8", ', "vocab_size": 9, "num_experts": 4')).encode(), "the key 'num_experts_per_tok'"),
        (
            (CONFIG % ("8", ', "vocab_size": true')).encode(),
            "expected a whole number of 1 or more, got 'True'",
        ),
    ],
)
def test_a_wrong_config_json_is_explained(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("\n".join(GOOD).replace("llama3-8b", "{hf_config: config.json}"))
    message = explain(scenario)
    assert expected in message
    assert "scenario.yaml:3:20: model.hf_config" in message
