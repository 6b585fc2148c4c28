"""Runs the engines' loops, compiled by numba where that pays off: it is optional, and slow to import."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from inspect import signature
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.engines import loops

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.workload.program import Floats

ENOUGH = 500_000
"""Nodes after which importing numba (0.3 s) has paid off: plain loops take 0.7 us for each."""

_followed = [0]


@cache
def has_numba() -> bool:
    """Tell whether loops can be compiled."""
    return find_spec("numba") is not None


def pays_off(nodes: int) -> bool:
    """Tell whether compiled loops are there, and worth it for so many more nodes.

    Without numba in memory, plain loops run until they have cost as much as importing it.
    """
    if not nodes or not has_numba():
        return False
    _followed[0] += nodes
    return "numba" in sys.modules or _followed[0] >= ENOUGH


def run(loop: Callable[..., Any], nodes: int, columns: tuple[Any, ...], results: tuple[Any, ...]) -> Any:  # noqa: ANN401  what the loop returns
    """Run a loop over columns, and put what it writes into the last of them.

    Compiled and plain loops add and compare the same numbers in the same order, so that results are the same
    to the last bit.

    Args:
        loop: A function of ``loops``.
        nodes: About how often it turns; 0 asks for the plain loop.
        columns: Arrays that it reads; those with one axis become lists for a plain loop, which is faster.
        results: Arrays that it changes.
    """
    if pays_off(nodes):
        return getattr(compiled_loops(), loop.__name__)(*columns, *results)
    lists = [column.tolist() if column.ndim == 1 else column for column in (*columns, *results)]
    answer = loop(*lists)
    for result, values in zip(results, lists[len(columns) :], strict=True):
        if values is not result:
            result[:] = values
    return answer


@cache
def compiled_loops() -> SimpleNamespace:
    """Return the functions of ``loops``, compiled when they are first called.

    What they compile to is kept on disk beside that file, or in the user's cache folder.
    """
    from numba import njit  # noqa: PLC0415  it takes a third of a second
    from numba.extending import register_jitable  # noqa: PLC0415

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            result: Callable[..., Any] = njit(cache=True, nogil=True)(function)
        except RuntimeError:  # nowhere to write
            result = njit(nogil=True)(function)
        return result

    for compiled_rows in _ROW_OPERATIONS:
        _compile_as(getattr(loops, compiled_rows.__name__.removeprefix("_")), compiled_rows)
    register_jitable(loops.add_contention)
    return SimpleNamespace(
        **{
            loop.__name__: compiled(loop)
            for loop in (
                loops.run_streams,
                loops.longest_path_batch,
                loops.longest_path_of_replicas,
                loops.any_overlap,
                loops.add_contention,
                loops.add_contention_batch,
                loops.peak_memory,
            )
        }
    )


def _compile_as(function: Callable[..., Any], compiled: Callable[..., Any]) -> None:
    """Let compiled loops that call a function run another one in its place."""
    from numba.extending import overload  # noqa: PLC0415

    def chosen(*_: object) -> object:
        return compiled

    # numba wants both to name their arguments in the same way.
    chosen.__signature__ = signature(compiled)  # type: ignore[attr-defined]
    overload(function)(chosen)


# What the operations on rows of ``loops`` compile to: loops without an array in between.


def _later_of_rows(table: Floats, row: int, first: int, second: int) -> None:
    for column in range(table.shape[1]):
        table[row, column] = max(table[first, column], table[second, column])


def _run_after(end_s: Floats, node: int, first: int, second: int, seconds: Floats) -> None:
    for column in range(end_s.shape[1]):
        end_s[node, column] = max(end_s[first, column], end_s[second, column]) + seconds[column]


def _all_durations(seconds: Floats) -> bool:
    sound = True
    for column in range(len(seconds)):
        sound &= (seconds[column] >= 0.0) & (seconds[column] < np.inf)
    return sound


def _spread_largest(values: Floats, size: int, stride: int) -> None:
    members = min(size, len(values) // stride)
    for block in range(0, len(values), members * stride):
        for first in range(block, block + stride):
            largest = values[first]
            for member in range(members):
                largest = max(largest, values[first + member * stride])
            for member in range(members):
                values[first + member * stride] = largest


_ROW_OPERATIONS = (_later_of_rows, _run_after, _all_durations, _spread_largest)
