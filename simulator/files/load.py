"""From a path or a mapping to a scenario."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.documents import Document, canonical, read
from simulator.files.base import with_base
from simulator.files.build import build
from simulator.files.flat_model import nested_model
from simulator.files.merge import without
from simulator.files.overrides import apply
from simulator.files.scenario_file import ScenarioFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from simulator.scenario import Scenario


def load(path: str | os.PathLike[str], overrides: Iterable[str] = (), *, searched: bool = False) -> Scenario:
    """Read a scenario file.

    Args:
        path: A YAML file; ``-`` is standard input.
        overrides: Settings that replace those of the file, such as ``parallelism.tp=8``; the value is YAML.
        searched: Whether the scenario is for ``search``: then the layout of the file itself need not be
            possible where it is free.

    Raises:
        ScenarioError: All problems of the file and the overrides, with their places.
    """
    name = os.fspath(path)
    document = read(name)
    seen = () if name == "-" else (Path(name).resolve(),)
    stem = "scenario" if name == "-" else Path(name).stem
    return _scenario(with_base(document, seen), stem, overrides, searched=searched)


def from_document(
    content: Mapping[str, object], name: str = "", overrides: Iterable[str] = (), *, searched: bool = False
) -> Scenario:
    """Return the scenario that a mapping with the content of a scenario file describes.

    Args:
        content: As in a file, with the same rules and defaults; relative paths start at the current folder.
        name: Stands for the file in problems, and for the scenario's name where the content has none.
        overrides: As in ``load``.
        searched: As in ``load``.

    Raises:
        ScenarioError: All problems of the content and the overrides.
    """
    document = with_base(Document(dict(content), name))
    return _scenario(document, name or "scenario", overrides, searched=searched)


def _scenario(document: Document, name: str, overrides: Iterable[str], *, searched: bool) -> Scenario:
    document = (
        canonical(nested_model(document), ScenarioFile) if isinstance(document.data, dict) else document
    )
    return build(without(apply(document, overrides), "base"), name, searched=searched)
