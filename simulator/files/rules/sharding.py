"""Data-parallel sharding: shard groups against replicas."""

from __future__ import annotations

from simulator.files.rules.rule import Rule
from simulator.scenario.sharding import KEEPS_WEIGHTS


def _near_divisors(dp: int, value: int) -> str:
    divisors = [number for number in range(1, dp + 1) if dp % number == 0]
    near = [number for number in divisors if number < value][-1:]
    return ", ".join(map(str, near + [number for number in divisors if number > value][:1]))


RULES = (
    *(
        Rule(
            law=f"{key} divides dp",
            reads=("dp", f"parallelism.{key}"),
            holds=lambda dp, value: True if value is None else dp % value == 0,
            at=f"parallelism.{key}",
            sentence=f"{{parallelism.{key}}} does not divide dp = {{dp}}; nearest: {{nearest}}",
            nearest=_near_divisors,
            example={"dp": 64, f"parallelism.{key}": 24},
        )
        for key in ("shard_size", "shard_replicas")
    ),
    Rule(
        law="shard_size x shard_replicas is dp where both are given",
        reads=("parallelism.shard_size", "parallelism.shard_replicas", "dp"),
        holds=lambda size, replicas, dp: True if size is None or replicas is None else size * replicas == dp,
        at="parallelism.shard_replicas",
        sentence="shard_size x shard_replicas = {parallelism.shard_size} x {parallelism.shard_replicas} = "
        "{nearest}; give one of them",
        nearest=lambda size, replicas, dp: f"{size * replicas}, but dp is {dp}",
        example={"parallelism.shard_size": 8, "parallelism.shard_replicas": 4, "dp": 64},
    ),
    Rule(
        law="shard_grad_op keeps weights: no reshard_after_forward",
        reads=("parallelism.sharding", "parallelism.reshard_after_forward"),
        holds=lambda word, reshards: word != KEEPS_WEIGHTS or not reshards,
        at="parallelism.reshard_after_forward",
        sentence="shard_grad_op keeps weights until the backward pass; use full_shard to gather them twice",
        example={"parallelism.sharding": "shard_grad_op", "parallelism.reshard_after_forward": True},
    ),
)
