"""Figures without pyplot: no global state, no display, the same bytes for the same data."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib as mpl

from simulator.reports.style import MPLSTYLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

DPI = 150


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the looks of all figures within a ``with`` block, and restore the caller's afterwards."""
    with mpl.rc_context(fname=MPLSTYLE):
        yield


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """Return the content of a ``.png``, ``.pdf`` or ``.svg`` file with the figure in it."""
    stream = io.BytesIO()
    dates = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    with house_style():
        figure.savefig(stream, format=suffix.removeprefix("."), dpi=DPI, metadata=dates[suffix])
    return stream.getvalue()
