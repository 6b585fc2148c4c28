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


def row_of(base: Scenario, settings: Mapping[str, object], result: Result | None) -> dict[str, object]:
    """Return a table row; without a result, only what was asked for is known."""
    if result is None:
        row = dict.fromkeys(COLUMNS)
        asked = _layout(base)
        for name, path in _PATHS.items():
            row[name] = settings.get(path, None if name in _DERIVED else asked[name])
    else:
        row = _layout(result.scenario) | _metrics(result)
        row = {name: row[name] for name in COLUMNS}
    has_column = set(_PATHS.values())
    return row | {path: value for path, value in settings.items() if path not in has_column}


def _layout(scenario: Scenario) -> dict[str, object]:
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
