"""What measured kernels reach on a GPU: fitted to measurements of it, or taken from a GPU like it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from simulator.catalogue.lookup import document, find, fits, fitted
from simulator.errors import CatalogueError
from simulator.scenario import AttentionEfficiency, AttentionPass, GemmEfficiency, Provenance
from simulator.units import Dimension, parse_quantity

DEFAULT_LIKE = "h100-80gb-sxm"
"""GPU that lends what neither a GPU nor the one like it has: the one with most measurements."""

_BY_NAME = frozenset({"gemm", "attention"})
_OTHER_FITS = frozenset({"collectives", "training", "leave_one_out"})
_PARTS = _BY_NAME | {"elementwise_fraction", "elementwise_ramp_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The fitted part of a ``Gpu``, with the provenance of every number by field path."""

    gemm: Mapping[str, GemmEfficiency]
    attention: Mapping[str, AttentionEfficiency]
    elementwise_fraction: float
    elementwise_ramp_s: float
    sources: Mapping[str, Provenance]


@lru_cache(maxsize=64)
def kernels(name: str, like: str | None = None) -> Kernels:
    """Return what kernels reach on a GPU.

    Args:
        name: Catalogue name of the GPU, or any other name for one that the catalogue does not hold.
        like: GPU that lends what was not measured; its numbers become assumptions.
    """
    data = fitted_document(name, like)
    sources = {path: Provenance(leaf["kind"], leaf["source"]) for path, leaf in _leaves(data, "")}
    return Kernels(
        gemm={fmt: GemmEfficiency(**_numbers(part)) for fmt, part in data["gemm"].items()},
        attention={
            kernel: AttentionEfficiency(
                forward=AttentionPass(**_numbers(part["forward"])),
                backward=AttentionPass(**_numbers(part["backward"])),
            )
            for kernel, part in data["attention"].items()
        },
        elementwise_fraction=_number(data["elementwise_fraction"]),
        elementwise_ramp_s=_number(data["elementwise_ramp_s"]),
        sources=sources,
    )


def fitted_document(name: str, like: str | None = None) -> dict[str, Any]:
    """Return the fitted numbers of a GPU as in the files, completed by assumptions.

    The GPU like it lends number formats and attention kernels one by one, the H100 only whole parts.
    """
    own = _read(name)
    other = like or lender(name)
    lent = _as_assumptions(fitted_document(other), f"as measured on {other}") if other else {}
    merged = lent | own
    for part in _BY_NAME & own.keys() & lent.keys():
        merged[part] = lent[part] | own[part]
    if name != DEFAULT_LIKE and not merged.keys() >= _PARTS:
        merged = _as_assumptions(_read(DEFAULT_LIKE), f"as measured on {DEFAULT_LIKE}") | merged
    attention = merged["attention"]
    if "cudnn" not in attention and "flash2" in attention:
        stand_in = _as_assumptions(attention["flash2"], "as FlashAttention 2 on the same GPU")
        merged["attention"] = attention | {"cudnn": stand_in}
    return merged


def is_measured(name: str) -> bool:
    """Tell whether fits for a GPU exist."""
    return name in fits() - _OTHER_FITS


def _read(name: str) -> dict[str, Any]:
    return fitted(name) if is_measured(name) else {}


def lender(name: str) -> str | None:
    """Return the GPU whose kernels stand in for those that were not measured on this one, or None."""
    try:
        data = document("gpu", name).data
    except CatalogueError:
        return None
    like = data.get("kernels_like") if isinstance(data, Mapping) else None
    return find("gpu", like) if isinstance(like, str) else None


def _as_assumptions(node: dict[str, Any], why: str) -> dict[str, Any]:
    if "value" in node:
        return node | {"kind": "assumed", "source": f"{why}: {node['source']}"}
    return {key: _as_assumptions(item, why) for key, item in node.items() if isinstance(item, dict)}


def _leaves(node: object, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict) and "value" in node:
        yield path, node
    elif isinstance(node, dict):
        for key, item in node.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)


def _numbers(part: dict[str, Any]) -> dict[str, Any]:
    return {key: _number(leaf) for key, leaf in part.items()}


def _number(leaf: dict[str, Any]) -> Any:  # noqa: ANN401  a number or a list of numbers, as the field asks
    value = leaf["value"]
    if isinstance(value, list):
        return tuple(float(item) for item in value)
    return parse_quantity(value, Dimension.TIME) if isinstance(value, str) else value
