"""What people call a metric, and how they write its value."""

from __future__ import annotations

from simulator.units import format_bytes, format_time, three_digits

_LABELS = {
    "step_time_s": "step time",
    "tflops_per_gpu": "TFLOP/s per GPU",
    "mfu": "MFU",
    "hfu": "HFU",
    "tokens_per_s_per_gpu": "tokens/s per GPU",
    "tokens_per_s": "tokens/s",
    "samples_per_s": "sequences/s",
    "bubble_fraction": "bubble",
    "exposed_communication_fraction": "exposed communication",
    "peak_memory_bytes": "peak memory per GPU",
    "days": "days",
    "gpu_hours": "GPU hours",
    "cost_dollars": "cost",
    "parallelism.tp": "tensor-parallel ranks (tp)",
    "parallelism.pp": "pipeline-parallel ranks (pp)",
    "parallelism.vpp": "model chunks per pipeline rank (vpp)",
    "parallelism.cp": "context-parallel ranks (cp)",
    "parallelism.ep": "expert-parallel ranks (ep)",
    "parallelism.dp": "data-parallel replicas (dp)",
    "cluster.gpus": "GPUs",
    "cluster.gpu": "GPU",
    "model": "model",
    "training.seq_length": "sequence length (tokens)",
    "training.micro_batch_size": "micro-batch size (sequences)",
    "training.global_batch_size": "global batch size (sequences)",
}
_UNITS = {"step_time_s": " (s)", "peak_memory_bytes": " (GiB)", "cost_dollars": " ($)"}


def label(name: str) -> str:
    """Return what to call a metric or a setting.

    >>> label("tflops_per_gpu"), label("tflops_per_gpu_full"), label("training.recompute")
    ('TFLOP/s per GPU', 'TFLOP/s per GPU (full)', 'recompute')
    """
    if name in _LABELS:
        return _LABELS[name]
    prefix = "tflops_per_gpu_"
    if name.startswith(prefix):
        return f"TFLOP/s per GPU ({name.removeprefix(prefix)})"
    return name.rpartition(".")[2].removesuffix("_s").removesuffix("_fraction").replace("_", " ")


def is_share(name: str) -> bool:
    """Tell whether a metric is a share, written as a percentage."""
    return name in {"mfu", "hfu"} or name.endswith("_fraction")


def axis_label(name: str) -> str:
    """Return the label of a figure's axis, with the unit of the numbers on it."""
    return label(name) + ("  (%)" if is_share(name) else _UNITS.get(name, ""))


def axis_value(name: str, value: float) -> float:
    """Return a value in the unit of ``axis_label``.

    >>> axis_value("mfu", 0.4), axis_value("peak_memory_bytes", 2**31)
    (40.0, 2.0)
    """
    if is_share(name):
        return value * 100
    return value / 2**30 if name.endswith("_bytes") else value


def large_text(value: float) -> str:
    """Write a large number in words, as budgets do; zeros are left out only where the number is as round.

    >>> large_text(6.211e7), large_text(15e12), large_text(4999900), large_text(1234)
    ('62.1 million', '15 trillion', '5.00 million', '1,234')
    """
    for limit, scale, word in (
        (0.9995e12, 1e12, "trillion"),
        (0.9995e9, 1e9, "billion"),
        (1e6, 1e6, "million"),
    ):
        if abs(value) >= limit:
            short = f"{value / scale:g}"
            return f"{short if len(short) <= 3 else three_digits(value / scale)} {word}"
    return f"{value:,.0f}"


def value_text(name: str, value: float) -> str:
    """Write a metric's value with its unit.

    >>> value_text("mfu", 0.4112), value_text("tflops_per_gpu", 400.04), value_text("gpu_hours", 3.1e7)
    ('41.1%', '400.0', '31 million')
    """
    if is_share(name):
        return f"{value:.1%}"
    if name.endswith("_s") and not name.endswith("per_s"):
        return format_time(value)
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name in {"gpu_hours", "tokens_per_s"}:
        return large_text(value)
    return f"{value:,.1f}" if abs(value) < 1e4 else f"{value:,.0f}"
