"""The command line: thin verbs over the public API. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import atexit
import gc
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEW_OBJECTS = 300_000
"""New objects after which Python looks for unreachable cycles, instead of 700: most live as long as a run."""


def main(arguments: Iterable[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What stands after the command's name; that of the process when None.

    Returns:
        The exit code.
    """
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # what is left at the end goes with the process, unsearched
    # NumPy's matrix library would start a thread for every core; matrices here are too small for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Looking for plug-ins, pydantic would read the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from simulator.cli.application import run

    return run(arguments)


__all__ = ["main"]
