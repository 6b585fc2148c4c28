"""What was measured, as rows that ``simulator/calibration/measurements`` could hold, and as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from simulator.measure.layer import LayerTimes
    from simulator.measure.measure import Measured, MeasuredKernel


def plain(measured: Measured) -> dict[str, object]:
    """Return everything as plain data: the columns of the calibration's tables, and seconds."""
    return {
        "device": measured.device,
        "software": measured.software,
        "gpu": measured.gpu,
        "launch_s": measured.launch_s,
        "layer": None if measured.layer is None else asdict(measured.layer),
        "gemm": [_gemm(row, row.work) for row in measured.kernels if isinstance(row.work, Gemm)],
        "attention": [
            _attention(row, row.work) for row in measured.kernels if isinstance(row.work, Attention)
        ],
        "elementwise": [
            {
                "name": row.work.name,
                "bytes": row.work.bytes_moved,
                "kernels": row.work.kernels,
                **_seconds(row),
            }
            for row in measured.kernels
            if isinstance(row.work, Elementwise)
        ],
        "left_out": list(measured.left_out),
    }


def lines(measured: Measured) -> Iterable[str]:
    """Yield the table for people."""
    yield f"Measured on {measured.device} ({measured.software}); predicted for {measured.gpu}"
    yield ""
    yield f"{'kernel':<26}{'shape':<40}{'measured':>12}{'predicted':>12}{'ratio':>8}"
    for row in measured.kernels:
        ratio = row.predicted_s / row.measured_s
        times = f"{row.measured_s * 1e6:>9.1f} us{row.predicted_s * 1e6:>9.1f} us"
        yield f"{row.work.name:<26}{_shape(row.work):<40}{times}{ratio:>8.2f}"
    yield ""
    yield f"launch of a small kernel   {measured.launch_s * 1e6:.1f} us of the host"
    if measured.layer is not None:
        yield from _layer(measured.layer)
    if measured.left_out:
        yield f"left out (not in PyTorch)  {', '.join(measured.left_out)}"


def _layer(layer: LayerTimes) -> Iterable[str]:
    forward, backward = layer.forward_s * 1e3, layer.backward_s * 1e3
    yield f"one layer, eager PyTorch   forward {forward:.2f} ms, backward {backward:.2f} ms"
    if layer.parts:
        parts = ", ".join(f"{kind} {seconds * 1e3:.2f} ms" for kind, seconds in layer.parts.items())
        yield f"  of which                 {parts}"
    yield f"  of the host              {layer.host_s * 1e3:.2f} ms"
    if layer.clock_hz is not None and layer.power_w is not None:
        yield f"  meanwhile                {layer.clock_hz / 1e6:.0f} MHz, {layer.power_w:.0f} W"


def _gemm(row: MeasuredKernel, work: Gemm) -> dict[str, object]:
    kind = "wgrad" if work.accumulates else "fwd"
    shape = {"pass": kind, "groups": work.batch, "m": work.m, "n": work.n, "k": work.k, "dtype": work.dtype}
    return {**shape, "tflops": work.flops / row.measured_s / 1e12, **_seconds(row)}


def _attention(row: MeasuredKernel, work: Attention) -> dict[str, object]:
    shape = {
        "pass": work.direction,
        "sequences": work.sequences,
        "heads": work.heads,
        "kv_heads": work.kv_heads,
        "head_dim": work.head_dim,
        "seq": work.seq_q,
        "mask": "causal" if work.pairs < work.seq_q * work.seq_kv else "full",
    }
    return {**shape, "tflops": work.flops / row.measured_s / 1e12, **_seconds(row)}


def _seconds(row: MeasuredKernel) -> Mapping[str, float]:
    return {"measured_s": row.measured_s, "predicted_s": row.predicted_s}


def _shape(work: Gemm | Attention | Elementwise) -> str:
    if isinstance(work, Gemm):
        return f"{work.batch} x {work.m:,} x {work.n:,} x {work.k:,} {work.dtype}"
    if isinstance(work, Attention):
        return f"{work.sequences} x {work.heads} heads x {work.seq_q:,} x {work.head_dim}"
    return f"{work.bytes_moved / 1e6:,.1f} MB, {work.kernels} kernels"
