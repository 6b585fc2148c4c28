"""The measured kernels that the fits and the tests read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from simulator.documents import parse
from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where measurements come from.

    Attributes:
        key: Short name in the tables.
        text: Citation.
        sustained: Whether random data ran until clocks and power had settled.
        includes_launch: Whether its times contain the host's launch of the kernel.
    """

    key: str
    text: str
    sustained: bool = True
    includes_launch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measurement: kernels run one after the other, and the seconds they took together."""

    gpu: str
    source: Source
    work: tuple[Gemm | Attention | Elementwise, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The best or the sustained FLOP/s of a GPU and number format, without a shape to fit."""

    gpu: str
    dtype: str
    source: Source
    flop_per_s: float


@lru_cache(maxsize=8)
def table(name: str) -> dict[str, Any]:
    """Read one file of measurements."""
    text = (files("simulator.calibration") / "measurements" / f"{name}.yaml").read_text("utf-8")
    return cast("dict[str, Any]", parse(text, f"measurements/{name}.yaml").data)


def gemm_points(gpu: str, dtype: str) -> tuple[Point, ...]:
    """Return the measured GEMMs of one GPU and number format."""
    found: list[Point] = []
    for part in table("gemm")["tables"]:
        if (part["gpu"], part["dtype"]) == (gpu, dtype):
            source = _source("gemm", part["source"])
            shapes = [(row, _gemm(row, dtype, grouped=part["kind"] == "grouped")) for row in part["rows"]]
            found += [
                Point(gpu=gpu, source=source, work=(work,), seconds=work.flops / row[-1] / 1e12)
                for row, work in shapes
            ]
    return tuple(found)


def peaks(kind: str) -> tuple[Peak, ...]:
    """Return the peaks of ``best_of_search`` or ``sustained`` measurements."""
    return tuple(
        Peak(
            gpu=row["gpu"],
            dtype=row["dtype"],
            source=_source("gemm", row["source"]),
            flop_per_s=row["tflops"] * 1e12,
        )
        for row in table("gemm")[kind]
    )


def attention_points(gpus: tuple[str, ...], kernel: str) -> tuple[Point, ...]:
    """Return the measurements of one attention kernel on GPUs of one kind."""
    return tuple(
        Point(gpu=part["gpu"], source=_source("attention", part["source"]), work=work, seconds=seconds)
        for part in table("attention")["tables"]
        if part["gpu"] in gpus and part["kernel"] == kernel
        for work, seconds in (_attention(row, kernel) for row in part["rows"])
    )


def elementwise_points(gpu: str) -> tuple[Point, ...]:
    """Return the measured normalisations (16 bit in and out) and streaming copies (1 GiB) of a GPU."""
    return tuple(_elementwise(gpu))


def _elementwise(gpu: str) -> Iterator[Point]:
    for part in table("elementwise")["norms"]:
        for model, rows, columns, gigabytes_per_s in part["rows"] if part["gpu"] == gpu else ():
            moved = 2.0 * 2.0 * rows * columns
            work = Elementwise(name=f"norm of {model}", bytes_moved=moved)
            source = _source("elementwise", part["source"])
            yield Point(gpu=gpu, source=source, work=(work,), seconds=moved / gigabytes_per_s / 1e9)
    for part in table("elementwise")["streams"]:
        for name, terabytes_per_s in part["rows"] if part["gpu"] == gpu else ():
            work = Elementwise(name=name, bytes_moved=2.0**30)
            source = _source("elementwise", part["source"])
            yield Point(gpu=gpu, source=source, work=(work,), seconds=2.0**30 / terabytes_per_s / 1e12)


def _source(name: str, key: str) -> Source:
    entry = table(name)["sources"][key]
    return Source(key=key, text=entry) if isinstance(entry, str) else Source(key=key, **entry)


def _gemm(row: list[Any], dtype: str, *, grouped: bool) -> Gemm:
    """Build a product; grouped rows state the forward shape in every pass."""
    kind, groups, m, n, k, _ = row
    if grouped and kind == "dgrad":
        n, k = k, n
    if grouped and kind == "wgrad":
        m, k = k, m
    return Gemm(
        name=kind, m=m, n=n, k=k, batch=groups, dtype=dtype, accumulates=kind == "wgrad", grouped=grouped
    )


def _attention(row: list[Any], kernel: str) -> tuple[tuple[Attention, ...], float]:
    """Build the kernels of a row and the seconds they took; sources count half the square as causal."""
    kind, sequences, heads, kv_heads, head_dim, value_dim, seq, mask, window, tflops = row
    causal = 0.5 * seq * seq if mask == "causal" else float(seq * seq)
    pairs = window * seq - 0.5 * window * window if window else causal
    work = tuple(
        Attention(
            sequences=sequences, heads=heads, kv_heads=kv_heads, head_dim=head_dim, value_dim=value_dim,
            seq_q=seq, seq_kv=seq, pairs=pairs, kernel=kernel, dtype="bf16", direction=direction,
        )
        for direction in ("forward", "backward")
        if kind in (direction, "both")
    )  # fmt: skip
    return work, sum(piece.flops for piece in work) / tflops / 1e12
