"""``simulator measure`` runs a scenario's kernels with PyTorch: here on the processor, if at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from simulator.cli import main
from simulator.errors import InputError
from simulator.files import load
from simulator.measure.measure import kernels_of
from simulator.measure.step import StepSettings
from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from pathlib import Path

TINY = """
name: tiny
cluster: {gpu: h100-80gb-sxm, gpus: 2}
model: {name: tiny, num_hidden_layers: 2, hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2,
        intermediate_size: 128, vocab_size: 256}
parallelism: {tp: 2}
training: {seq_length: 32, micro_batch_size: 1, global_batch_size: 2, precision: bf16}
software: megatron-core
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_kernels_are_those_of_the_layers(tiny: Path) -> None:
    """A rank of two holds half the columns; forward, input gradient and weight gradient each appear."""
    works = kernels_of(load(tiny))
    assert len(set(works)) == len(works)
    assert {type(work) for work in works} == {Gemm, Attention, Elementwise}
    shapes = {(work.m, work.n, work.k, work.accumulates) for work in works if isinstance(work, Gemm)}
    assert {(32, 64, 64, False), (32, 64, 64, True)} & shapes
    assert {work.direction for work in works if isinstance(work, Attention)} == {"forward", "backward"}


def test_measuring_on_the_processor(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    command = ["measure", str(tiny), "--device", "cpu", "--settle", "0", "--repeats", "2"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["gemm"] + found["attention"] + found["elementwise"]
    assert len(rows) == len(kernels_of(load(tiny)))
    assert all(row["measured_s"] > 0 and row["predicted_s"] > 0 for row in rows)
    assert found["layer"]["forward_s"] > 0
    assert main(command) == 0
    assert "one layer, eager PyTorch" in capsys.readouterr().out


def test_training_on_the_processor(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    alone = ["cluster.gpus=1", "parallelism.tp=1", "software=torchtitan", "training.global_batch_size=2"]
    command = ["measure", str(tiny), "--device", "cpu", "--steps", "1"]
    assert main([*command, *(part for each in alone for part in ("--set", each)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step_s"] > 0
    assert found["predicted_s"] > 0
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "2 GPUs" in told
    assert "torchtitan" in told


@pytest.mark.parametrize(
    "setting",
    [
        "model.norm=layernorm",
        "model.linear_bias=true",
        "model.qkv_bias=true",
        "model.qk_norm=true",
        "model.parallel_blocks=true",
        "model.residual_dropout=true",
        "model.tie_word_embeddings=true",
        "model.sliding_window=16",
        "model.attention_chunk_size=16",
        "model.num_nextn_predict_layers=1",
        "training.mean_document_length=16",
    ],
)
def test_what_the_trained_decoder_is_not_is_refused(tiny: Path, setting: str) -> None:
    alone = ["cluster.gpus=1", "parallelism.tp=1", "software=torchtitan", "training.global_batch_size=2"]
    assert StepSettings.of(load(tiny, alone))
    name = setting.partition("=")[0]
    with pytest.raises(InputError, match="masked" if name.startswith("training") else name):
        StepSettings.of(load(tiny, [*alone, setting]))


def test_without_pytorch_or_a_gpu_the_error_says_so(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(tiny)]) == 2
    assert "PyTorch" in capsys.readouterr().err
