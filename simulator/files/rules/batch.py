"""The batch: sequences of a step against micro-batches and replicas, and how many passes they make."""

from __future__ import annotations

from simulator.files.findings import nearest_multiples
from simulator.files.rules.rule import Fact, Rule

MAX_PIPELINE_OPS = 4_000_000
"""Forward (or backward) passes of one step over all pipeline ranks; beyond it a simulation takes hours."""

BATCH_DIVIDES = Rule(
    law="micro_batch_size x dp divides the global batch",
    reads=("training.global_batch_size", "replica_batch"),
    holds=lambda batch, per_step: batch % per_step == 0,
    at="training.global_batch_size",
    sentence="{training.global_batch_size} is no multiple of micro_batch_size x dp = "
    "{training.micro_batch_size} x {dp} = {replica_batch}; nearest: {nearest}",
    nearest=nearest_multiples,
    example={
        "training.global_batch_size": 1000,
        "training.micro_batch_size": 2,
        "dp": 64,
        "replica_batch": 128,
    },
)

FACTS = (
    Fact(
        name="replica_batch",
        reads=("training.micro_batch_size", "dp"),
        value=lambda size, dp: size * dp,
        meaning="sequences that all replicas take at a time: micro_batch_size x dp",
    ),
    Fact(
        name="microbatches",
        reads=("training.global_batch_size", "replica_batch"),
        value=lambda batch, per_step: batch // per_step,
        meaning="micro-batches of a step: global_batch_size / (micro_batch_size x dp)",
        needs=(BATCH_DIVIDES,),
    ),
    Fact(
        name="passes",
        reads=("parallelism.pp", "parallelism.vpp", "microbatches"),
        value=lambda pp, vpp, microbatches: pp * vpp * microbatches,
        meaning="forward passes of a step: pp x vpp x micro-batches",
    ),
)

FEW_PASSES = Rule(
    law=f"a step has at most {MAX_PIPELINE_OPS:,} forward passes, pp x vpp x micro-batches",
    reads=("passes",),
    holds=lambda passes: passes <= MAX_PIPELINE_OPS,
    at="training.global_batch_size",
    sentence="pp x vpp x micro-batches = {parallelism.pp} x {parallelism.vpp} x {microbatches} = {passes} "
    f"passes per step, more than the {MAX_PIPELINE_OPS} that are simulated; use larger micro-batches",
    example={"parallelism.pp": 64, "parallelism.vpp": 8, "microbatches": 8192, "passes": 4194304},
)

RULES = (BATCH_DIVIDES, FEW_PASSES)
