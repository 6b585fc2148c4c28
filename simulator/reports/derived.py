"""Sizes that follow from a scenario without simulating it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from simulator.reports.metric_text import large_text
from simulator.scenario.parameters import ModelParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import Scenario

_SHOWN_RUNS = 8


def derived_sizes(scenario: Scenario) -> dict[str, object]:
    """Return what people check before they start a job, as plain data with stable keys.

    ``gpus = tp * pp * cp * dp`` and ``global_batch_size = micro_batch_size * dp * num_microbatches``.
    """
    parameters = ModelParameters.of(scenario.model)
    return {
        "parameters": parameters.total,
        "active_parameters": parameters.active,
        "gpus": scenario.cluster.gpus,
        "dp": scenario.parallelism.dp,
        "num_microbatches": scenario.num_microbatches,
        "tokens_per_step": scenario.tokens_per_step,
        "stage_layers": list(scenario.parallelism.stage_layers),
    }


def layout_text(scenario: Scenario) -> str:
    """Name the hardware, the layout and the stack in one line."""
    parallelism, training = scenario.parallelism, scenario.training
    axes = ("tp", "cp", "pp", "vpp", "ep", "dp")
    degrees = [f"{axis} {getattr(parallelism, axis)}" for axis in axes if getattr(parallelism, axis) > 1]
    sharding = [] if parallelism.sharding == "none" else [parallelism.sharding]
    recompute = [] if training.recompute == "none" else [f"{training.recompute} recompute"]
    cluster = scenario.cluster
    hardware = cluster.gpu_name if cluster.pools else f"{cluster.gpus:,} x {cluster.gpu.name}"
    parts = [hardware, *degrees, parallelism.schedule]
    return ", ".join([*parts, *sharding, training.precision, *recompute, scenario.software.name])


def size_lines(scenario: Scenario) -> list[tuple[str, str]]:
    """Return the derived sizes as pairs of name and text for people."""
    training, parallelism = scenario.training, scenario.parallelism
    parameters = ModelParameters.of(scenario.model)
    total, active = parameters.total, parameters.active
    of_which = "" if active == total else f", {_billions(active)} active per token"
    batch = (
        f"{training.global_batch_size:,} sequences of {training.seq_length:,} tokens = "
        f"{large_text(scenario.tokens_per_step)} tokens per step"
    )
    division = (
        f"{parallelism.dp:,} replicas x {scenario.num_microbatches:,} micro-batches of "
        f"{training.micro_batch_size} sequence{'s' if training.micro_batch_size > 1 else ''}"
    )
    return [
        ("model", f"{scenario.model.name}: {_billions(total)} parameters{of_which}"),
        ("batch", batch),
        ("divided", division),
        ("layers", stages_text(parallelism.stage_layers)),
    ]


def stages_text(layers: Sequence[int]) -> str:
    """Write the layers of each stage, equal neighbours together.

    >>> stages_text((7, 8, 8, 7)), stages_text((4,) * 8)
    ('30 over 4 stages: 7, 8, 8, 7', '32 over 8 stages: 4 each')
    >>> stages_text((0, *(1,) * 126, 0))
    '126 over 128 stages: 0, 126 stages of 1, 0'
    """
    if len(layers) == 1:
        return f"{layers[0]} in one stage"
    runs = [(count, len(list(same))) for count, same in itertools.groupby(layers)]
    if len(runs) == 1:
        return f"{sum(layers)} over {len(layers)} stages: {layers[0]} each"
    if len(runs) > _SHOWN_RUNS:
        return f"{sum(layers)} over {len(layers)} stages: {min(layers)} to {max(layers)} each"
    text = ", ".join(f"{times} stages of {count}" if times > 1 else str(count) for count, times in runs)
    if len(layers) <= _SHOWN_RUNS:
        text = ", ".join(map(str, layers))
    return f"{sum(layers)} over {len(layers)} stages: {text}"


def _billions(count: int) -> str:
    return f"{count / 1e9:.4g} billion" if count >= 1e9 else f"{count / 1e6:.4g} million"
