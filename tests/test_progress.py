"""Long commands show life: a moving line on a terminal, and a line every ten seconds in the log of a job."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from simulator.cli import progress

if TYPE_CHECKING:
    from collections.abc import Callable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now_s = [0.0]

    def set_clock(seconds: float) -> None:
        now_s[0] = seconds

    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    return set_clock


def test_a_log_gets_no_line_at_first_and_then_one_every_ten_seconds(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.counted("steps") as count, progress.told() as tell:
        for second in range(35):
            clock(float(second))
            count(second, 1000)
            tell(f"at {second}")
    err = capsys.readouterr().err.splitlines()
    assert err == ["10 of 1,000 steps", "at 10", "20 of 1,000 steps", "at 20", "30 of 1,000 steps", "at 30"]


def test_a_terminal_gets_a_bar_and_a_line_that_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.counted("steps") as count:
        count(3, 7)
    assert "3/7" in terminal.getvalue()
    with progress.told() as tell:
        tell("[3/7] parallelism.tp=4")
    assert "[3/7] parallelism.tp=4" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")
