"""Data-parallel sharding in scenario files: the words that users bring, its rules and its warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simulator.errors import ScenarioError
from simulator.files import from_document

if TYPE_CHECKING:
    from simulator.scenario import Scenario

DOCUMENT = {
    "cluster": {"gpu": "h100-80gb-sxm", "gpus": 64, "network": "rail-optimised-400g"},
    "model": "llama3-8b",
    "training": {"seq_length": 8192, "global_batch_size": 128},
    "software": "torchtitan",
}


def load(*settings: str) -> Scenario:
    return from_document(DOCUMENT, "test", settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["sharding=none"], ("none", None, True, False)),
        (["sharding=zero1"], ("zero1", None, True, False)),
        (["sharding=zero2"], ("zero2", None, True, True)),
        (["sharding=fsdp"], ("zero3", None, True, True)),
        (["sharding=full_shard", "no_sync=true"], ("zero3", None, True, False)),
        (["sharding=shard_grad_op"], ("zero3", None, False, True)),
        (["sharding=hybrid"], ("zero3", 8, True, True)),
        (["sharding=hsdp", "tp=2"], ("zero3", 4, True, True)),
        (["sharding=hsdp", "data_parallel_replicate_degree=4"], ("zero3", 16, True, True)),
        (["sharding=zero3", "data_parallel_shard_degree=32"], ("zero3", 32, True, True)),
        (["sharding=zero3", "data_parallel_shard_degree=-1"], ("zero3", None, True, True)),
        (["sharding=zero3", "fsdp_reshard_after_forward=never"], ("zero3", None, False, True)),
        (["sharding=zero3", "pp=2"], ("zero3", None, False, False)),
        (["sharding=zero3", "pp=2", "fsdp_reshard_after_forward=always"], ("zero3", None, True, False)),
        (["data_parallel_sharding_strategy=optim_grads_params"], ("zero3", None, True, True)),
    ],
)
def test_words_of_every_tool_are_understood(settings: list[str], expected: tuple[object, ...]) -> None:
    parallelism = load(*(f"parallelism.{setting}" for setting in settings)).parallelism
    found = (
        parallelism.sharding,
        parallelism.shard_size,
        parallelism.reshard_after_forward,
        parallelism.reduce_every_microbatch,
    )
    assert found == expected


def test_llama_3_reduces_gradients_once_per_step_without_a_pipeline_too() -> None:
    scenario = load("software=meta-llama3", "parallelism.sharding=zero2")
    assert not scenario.parallelism.reduce_every_microbatch


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sharding=zero3", "shard_size=24"], "24 does not divide dp = 64; nearest: 16, 32"),
        (["sharding=zero3", "shard_size=8", "shard_replicas=4"], "8 x 4 = 32, but dp is 64"),
        (["sharding=shard_grad_op", "reshard_after_forward=true"], "use full_shard"),
    ],
)
def test_contradictions_name_the_nearest_valid_choice(settings: list[str], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(*(f"parallelism.{setting}" for setting in settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["parallelism.shard_size=8"], "shard_size has no effect: sharding is none"),
        (["parallelism.sharding=zero1", "parallelism.prefetch=2"], "prefetch has no effect"),
        (["parallelism.sharding=zero2", "fsdp_reshard_after_forward=true"], "reshard_after_forward has no"),
        (
            ["parallelism.sharding=zero3", "parallelism.prefetch=2", "training.overlap.param_gather=false"],
            "prefetch has no effect: gathers are not overlapped",
        ),
        (
            ["parallelism.reduce_every_microbatch=true", "training.global_batch_size=64"],
            "reduce_every_microbatch has no effect: a step has one micro-batch",
        ),
        (
            ["cluster.gpus=8", "parallelism.tp=8", "training.reduce_dtype=bf16"],
            "reduce_dtype has no effect: dp x cp is 1",
        ),
    ],
)
def test_settings_without_effect_warn_by_name(settings: list[str], message: str) -> None:
    settings = [f"parallelism.{each}" if each.startswith("fsdp") else each for each in settings]
    assert any(message in warning for warning in load(*settings).warnings)
