"""The public API: few names, sorted, documented, cheap to import."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import simulator
from simulator.engines.jit import has_numba


def test_public_names_are_few_sorted_documented_and_importable() -> None:
    names = simulator.__all__
    assert names == sorted(names)
    assert 8 <= len(names) <= 13
    for name in names:
        assert getattr(simulator, name).__doc__
        assert f"    {name} " in (simulator.__doc__ or ""), name


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'simpy', 'pydantic', 'matplotlib'}"
    code = f"import simulator, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loops_are_compiled_wherever_numba_is_installed() -> None:
    """Nothing else would notice that they are not: results are the same, in ten times the seconds."""
    try:
        version("numba")
    except PackageNotFoundError:
        assert not has_numba()
    else:
        assert has_numba()
