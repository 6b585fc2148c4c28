"""What tests share: ``factories`` importable, Hypothesis deterministic in CI, both kinds of loops."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(params=["plain", "numba"], scope="module")
def loops(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the tests of a module with plain loops, then with compiled ones from the first op on."""
    from simulator.engines import jit

    kind = str(request.param)
    if kind == "numba":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "has_numba", lambda: kind == "numba")
        patch.setattr(jit, "ENOUGH", 0)
        yield kind
