"""What this project has promised to do in which time, measured on this machine.

    python -m pytest tests/benchmarks -m benchmark -s

Seconds are of the process (user and system), so that what else runs on the machine counts little, save where
a line says wall. Everything is cold unless it says warm: nothing is remembered, nothing laid out; imports and
what numba compiles are not counted, save in ``simulator run``. Nothing here fails on a slow machine.
"""

from __future__ import annotations

import gc
import itertools
import resource
import subprocess
import sys
import time
from dataclasses import replace
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import make_scenario

from simulator import api, load
from simulator.batch.evaluate import evaluate
from simulator.durations import layers as layer_times
from simulator.engines import jit
from simulator.engines.replicas import run_replicas
from simulator.explore.montecarlo.template import coupling_of
from simulator.scenario import Tier
from simulator.workload.program import OpKind
from simulator.workload.step import settings as step_settings
from simulator.workload.step import structure as structures
from simulator.workload.step.build import build_step

from .timing import MODEL, best, machine, say, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import Scenario

pytestmark = pytest.mark.benchmark
SCENARIOS = Path(__file__).parents[2] / "scenarios"
KEEPS = tuple(f"simulator.{part}" for part in ("workload", "durations", "costs", "batch", "results"))
"""Where what was worked out before is kept."""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile what can be compiled, from the first op on."""
    pytest.importorskip("numba")
    monkeypatch.setattr(jit, "ENOUGH", 0)
    api.simulate(replace(make_scenario(pp=2, dp=2, sharding="zero1"), engine="compiled"))
    evaluate([make_scenario(pp=2, dp=2, sharding="zero2")])
    run_ready()
    forget()


def forget() -> None:
    for kept in (step_settings, structures, layer_times):
        kept.forget()
    for cached in gc.get_objects():
        if isinstance(cached, _lru_cache_wrapper) and cached.__module__.startswith(KEEPS):
            cached.cache_clear()
    gc.collect()


def run_ready() -> None:
    scenario = make_scenario(dp=2)
    program = build_step(scenario).program
    run_replicas(program, np.ones((1, program.num_ops, 2)), coupling_of(program, scenario.parallelism))


def row(work: str, measured: str, target: str, ratio: float) -> None:
    """Print a line of the table; a ratio above 1 is better than promised."""
    say(f"{work:<58} {measured:>22}  target {target:<14} {ratio:6.2f} x")


def test_machine() -> None:
    say(machine())


def layouts(base: Scenario) -> Iterator[Scenario]:
    """Yield layouts of tp, pp, vpp, micro-batch, sharding, recomputation and sequence parallelism."""
    count, gpus, batch = (
        base.model.num_hidden_layers,
        base.cluster.gpus,
        base.training.global_batch_size,
    )
    for tp, pp, vpp in itertools.product((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32, 64), (1, 2, 3, 4, 6, 8, 12)):
        dp, stages = gpus // (tp * pp), pp * vpp
        each = count // stages if count % stages == 0 else (count + 2) // stages
        if batch % dp or (pp == 1 < vpp) or each * stages not in {count, count + 2}:
            continue
        ends = (each * stages - count) // 2
        layers = (each,) * stages if not ends else (each - 1, *(each,) * (stages - 2), each - 1)
        for size in (1, 2, 4, 8):
            if batch % (dp * size) or (vpp > 1 and batch // (dp * size) % pp):
                continue
            for sharding, recompute, divides in itertools.product(
                ("none", "zero1", "zero2"), ("none", "selective", "full"), {False, tp > 1}
            ):
                parallelism = replace(
                    base.parallelism,
                    tp=tp,
                    pp=pp,
                    vpp=vpp,
                    dp=dp,
                    sequence_parallel=divides,
                    schedule="1f1b" if vpp == 1 else "interleaved",
                    sharding=sharding,
                    stage_layers=layers,
                )
                training = replace(base.training, micro_batch_size=size, recompute=recompute)
                yield replace(base, parallelism=parallelism, training=training)


def spaces() -> Iterator[tuple[str, Scenario]]:
    gpt = load(SCENARIOS / "gpt3-175b-a100.yaml")
    cluster = replace(gpt.cluster, gpus=4096)
    training = replace(gpt.training, global_batch_size=4096)
    yield "GPT-3 175B on 4,096 A100", replace(gpt, cluster=cluster, training=training)
    yield "Llama 3 405B on 16,384 H100", load(SCENARIOS / "llama3-405b-16k.yaml")


@pytest.mark.parametrize(("name", "base"), list(spaces()))
def test_configurations_per_second(name: str, base: Scenario) -> None:
    scenarios = list(layouts(base))

    def once() -> float:
        forget()
        return seconds(lambda: evaluate(scenarios))

    cold = min(once() for _ in range(5))
    warm = best(lambda: evaluate(scenarios), 5)
    for how, taken in (("cold", cold), ("warm", warm)):
        rate = 2 * len(scenarios) / taken
        row(f"configurations/s, 2 cores, {name}, {how}", f"{rate:,.0f} /s", ">= 3,000 /s", rate / 3000)


def test_one_step_of_16384_gpus_with_jitter() -> None:
    scenario = make_scenario(model=MODEL, tp=8, pp=16, vpp=8, dp=128, microbatches=16)
    program = build_step(scenario).program
    own = np.random.default_rng(0).exponential(size=(1, program.num_ops, 128))
    ends, coupling = np.empty_like(own), coupling_of(program, scenario.parallelism)
    taken = best(lambda: run_replicas(program, own, coupling, ends=ends), 20)
    passes = int((program.kind <= OpKind.BACKWARD).sum()) * 128
    row(
        f"sampled step, 16,384 GPUs, {passes:,} passes, {own.size:,} ops",
        f"{taken * 1e3:.1f} ms",
        "<= 5 ms",
        5e-3 / taken,
    )


def test_one_symmetric_step_of_64_stages_and_512_microbatches() -> None:
    scenario = replace(make_scenario(model=MODEL, tp=8, pp=64, dp=4, microbatches=512), engine="compiled")

    def once() -> float:
        forget()
        return seconds(lambda: api.simulate(scenario))

    taken = min(once() for _ in range(5))
    row("one step, pp 64, 512 micro-batches, all results", f"{taken * 1e3:.0f} ms", "<= 100 ms", 0.1 / taken)
    warm = best(lambda: api.simulate(scenario), 5)
    row("the same, layers remembered", f"{warm * 1e3:.0f} ms", "<= 100 ms", 0.1 / warm)


def test_a_million_gpus_with_jitter() -> None:
    tiers = (
        Tier(name="leaf", gpus=256, oversubscription=1.0, latency_s=1e-6),
        Tier(name="hall", gpus=32768, oversubscription=4.0, latency_s=2e-6),
        Tier(name="sites", gpus=0, oversubscription=16.0, latency_s=5e-3),
    )
    replicas = 1_048_576 // 128
    scenario = make_scenario(model=MODEL, tp=8, pp=16, dp=replicas, microbatches=16, sharding="zero1")
    network = replace(scenario.cluster.network, tiers=tiers)
    scenario = replace(scenario, cluster=replace(scenario.cluster, network=network), engine="compiled")

    def once() -> None:
        timeline = api.simulate(scenario).timeline
        alone = timeline.end_s - timeline.start_s
        random = np.random.default_rng(0)
        own = random.standard_normal((1, len(alone), replicas), dtype=np.float32).astype(np.float64)
        own *= 0.02
        own += 1.0
        own *= alone[:, None]
        run_replicas(timeline.program, own, coupling_of(timeline.program, scenario.parallelism))

    taken = best(once, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row("1,048,576 GPUs with jitter, one step", f"{taken:.2f} s, {peak:.1f} GiB", "<= 2 s, 4 GiB", 2 / taken)


def test_the_headline_from_the_command_line() -> None:
    command = [sys.executable, "-m", "simulator", "run", str(SCENARIOS / "llama3-405b-16k.yaml")]
    walls, used = [], []
    for _ in range(5):
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - begin)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    row(
        "simulator run, headline, wall", f"{min(walls):.2f} s ({min(used):.2f})", "<= 0.8 s", 0.8 / min(walls)
    )
