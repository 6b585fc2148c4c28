"""Bytes in: a file or standard input as text, whatever the user points at."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from simulator.errors import Problem, ScenarioError, did_you_mean


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a document may be; a scenario has some 60 lines, so larger input is a mistake.

    Attributes:
        size_bytes: Size of the file.
        nodes: Keys, values and list items after aliases are expanded.
        depth: Nesting of mappings and lists.
    """

    size_bytes: int = 256 << 10
    nodes: int = 20_000
    depth: int = 40


SCENARIO_LIMITS = Limits()


def read_text(path: str | os.PathLike[str], limits: Limits = SCENARIO_LIMITS) -> str:
    """Return the text of a UTF-8 file; ``-`` is standard input.

    Raises:
        ScenarioError: The file is missing, a directory, unreadable, too large, binary or not UTF-8.
    """
    name = os.fspath(path)
    return decode(_read_bytes(name, limits), name)


def decode(content: bytes, name: str) -> str:
    """Return the text of UTF-8 bytes."""
    if b"\0" in content:
        raise ScenarioError([Problem("is a binary file, not YAML text", file=name)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"is not UTF-8 text: byte 0x{content[error.start]:02x}"
        raise ScenarioError([Problem(message, file=name, line=line, column=column)]) from None


def _read_bytes(name: str, limits: Limits) -> bytes:
    try:
        if name == "-":
            return _at_most(sys.stdin.buffer, "standard input", limits)
        if Path(name).is_dir():
            raise ScenarioError([Problem("is a directory, expected a file", file=name)])
        with Path(name).open("rb") as stream:
            return _at_most(stream, name, limits)
    except FileNotFoundError:
        raise ScenarioError([Problem(f"no such file{_neighbour(name)}", file=name)]) from None
    except OSError as error:
        raise ScenarioError([Problem(f"cannot be read: {error.strerror}", file=name)]) from None
    except ValueError:
        raise ScenarioError([Problem("is not a file name", file=ascii(name))]) from None


def _at_most(stream: BinaryIO, name: str, limits: Limits) -> bytes:
    content = stream.read(limits.size_bytes + 1)
    if len(content) > limits.size_bytes:
        message = f"is larger than {limits.size_bytes >> 10} KiB, too large for this kind of file"
        raise ScenarioError([Problem(message, file=name)])
    return content


def _neighbour(name: str) -> str:
    """Name a file of the same folder that the user may have meant."""
    try:
        files = [entry.name for entry in Path(name).parent.iterdir()]
    except OSError:
        return ""
    return did_you_mean(Path(name).name, files)
