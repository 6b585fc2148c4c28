"""The columns of a sweep's table: Megatron-Bridge's performance summary first, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.results.result import Result
    from simulator.scenario import Scenario

_PATHS = {
    "gpu": "cluster.gpu",
    "gpus": "cluster.gpus",
    "precision": "training.precision",
    "gbs": "training.global_batch_size",
    "mbs": "training.micro_batch_size",
    "seq": "training.seq_length",
    "tp": "parallelism.tp",
    "pp": "parallelism.pp",
    "cp": "parallelism.cp",
    "vpp": "parallelism.vpp",
    "ep": "parallelism.ep",
    "dp": "parallelism.dp",
}
_DERIVED = frozenset({"dp"})
LAYOUT = ("gpu", "gpus", "precision", "gbs", "mbs", "seq", "tp", "pp", "cp", "vpp", "ep")
COLUMNS = (
    *LAYOUT,
    "tokens_per_s_per_gpu",
    "tflops_per_gpu",
    "dp",
    "num_microbatches",
    "step_time_s",
    "mfu",
    "hfu",
    "bubble_fraction",
    "peak_memory_bytes",
    "fits",
)


def row_of(settings: Mapping[str, object], result: Result) -> dict[str, object]:
    """Return the table row of a point of a sweep."""
    row = layout_of(result.scenario) | _metrics(result)
    return {name: row[name] for name in COLUMNS} | _without_column(settings)


def row_without_result(base: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """Return the table row of a point that makes no scenario: only what was asked for is known.

    Args:
        base: Layout of the scenario whose settings the point varies; see ``layout_of``.
        settings: Dotted path to value of the varied settings.
    """
    row: dict[str, object] = dict.fromkeys(COLUMNS)
    for name, path in _PATHS.items():
        row[name] = settings.get(path, None if name in _DERIVED else base[name])
    return row | _without_column(settings)


def _without_column(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the varied settings that have no column among those of every sweep."""
    has_column = set(_PATHS.values())
    return {path: value for path, value in settings.items() if path not in has_column}


def layout_of(scenario: Scenario) -> dict[str, object]:
    """Return what the columns say of a scenario before it is simulated."""
    parallelism, training = scenario.parallelism, scenario.training
    return {
        "gpu": scenario.cluster.gpu_name,
        "gpus": scenario.cluster.gpus,
        "precision": training.precision,
        "gbs": training.global_batch_size,
        "mbs": training.micro_batch_size,
        "seq": training.seq_length,
        **{axis: getattr(parallelism, axis) for axis in ("tp", "pp", "cp", "vpp", "ep", "dp")},
        "num_microbatches": scenario.num_microbatches,
    }


def _metrics(result: Result) -> dict[str, object]:
    values = {name: result.metrics[name] for name in COLUMNS if name in result.metrics}
    return {**values, "fits": result.memory.fits}
