"""README's console sessions print what they say they print; its Python runs as a doctest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from simulator.cli import main
from simulator.cli.application import _VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SESSIONS = re.findall(r"```console\n\$ simulator (.*)\n((?:.*\n)*?)```", README)


@pytest.mark.parametrize(("command", "output"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_session(
    command: str, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert printed == [line.rstrip() for line in output.rstrip().splitlines()]


def test_every_verb_is_documented() -> None:
    assert len(SESSIONS) >= 2
    assert [verb for verb in _VERBS if f"`simulator {verb}" not in README] == []


def test_test_command_is_the_one_that_ci_runs() -> None:
    command = 'python -m pip install -e ".[test]" && python -m pytest'
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text()
