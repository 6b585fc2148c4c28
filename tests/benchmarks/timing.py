"""How benchmarks take times, and the model whose step they time."""

from __future__ import annotations

import gc
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.scenario import Model

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = Model(
    name="128 layers",
    num_hidden_layers=128,
    hidden_size=16384,
    num_attention_heads=128,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=53248,
    vocab_size=128256,
)


def seconds(run: Callable[[], object]) -> float:
    """Return the seconds of the process, user and system, that one run takes."""
    gc.collect()
    begin = time.process_time()
    run()
    return time.process_time() - begin


def best(run: Callable[[], object], times: int = 7) -> float:
    """Return the seconds of the fastest of several runs."""
    return min(seconds(run) for _ in range(times))


def side_by_side(*runs: Callable[[], object], times: int = 15) -> list[float]:
    """Return the seconds of the fastest of each run, in turn: a machine that slows down slows all of them."""
    taken = [[seconds(run) for run in runs] for _ in range(times)]
    return [min(column) for column in zip(*taken, strict=True)]


def say(text: str) -> None:
    """Print a line of its own between pytest's dots."""
    print(f"\n  {text}", end="")  # noqa: T201


def machine() -> str:
    """Return what runs here: processor, cores, load, and versions."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.processor() or platform.machine())
    return (
        f"{processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.python_implementation()} {platform.python_version()}, numpy {np.__version__}"
    )
