"""Every field of a scenario file does something: some result changes with it, or a warning names it."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from simulator import api, files
from simulator.documents import Sourced
from simulator.documents.aliases import branches, fields
from simulator.errors import ScenarioError
from simulator.files.scenario_file import ScenarioFile

from .field_examples import ALONE, BASE, DESCRIBES, EXAMPLES, SLOW_NETWORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OF_EVERY_ENTRY = ("title", "aliases", "sources")
"""Names and citations of an entry."""
_ENTRIES = ("cluster.gpu.", "cluster.network.", "model.", "software.")
"""Parts of entries describe a thing in full, whichever part of it a scenario uses: none is called idle."""


def paths() -> list[str]:
    """Walk the schema; a list stands for its first item, and each schema is walked where it comes first."""
    return list(dict.fromkeys(_walk(ScenarioFile, "", set())))


def _walk(schema: type[BaseModel], prefix: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    if schema in seen:
        return
    seen.add(schema)
    for name, info in fields(schema).items():
        path = f"{prefix}{name}"
        inner = list(_mappings(info.annotation, path))
        if len(inner) < len([branch for branch in branches(info.annotation) if branch is not type(None)]):
            yield path
        for mapping, where in inner:
            yield from _walk(mapping, f"{where}.", seen)


def _mappings(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:  # noqa: ANN401
    for branch in branches(annotation):
        if isinstance(branch, type) and issubclass(branch, BaseModel):
            if not issubclass(branch, Sourced):
                yield branch, path
        elif get_origin(branch) is list:
            for item in get_args(branch):
                yield from _mappings(item, f"{path}.0")


def document(*layers: Mapping[str, object]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for layer in layers:
        for path, value in layer.items():
            put(content, path.split("."), copy.deepcopy(value))
    return content


def put(node: Any, keys: list[str], value: object) -> None:  # noqa: ANN401
    key: Any = int(keys[0]) if keys[0].isdigit() else keys[0]
    if len(keys) == 1:
        if value is None:
            node.pop(key, None)
        else:
            node[key] = value
        return
    if not isinstance(node, list) and not isinstance(node.get(key), dict | list):
        node[key] = {}
    put(node[key], keys[1:], value)


@cache
def _simulated(text: str) -> tuple[str, tuple[str, ...]]:
    scenario = files.from_document(json.loads(text), "example")
    result = api.simulate(scenario).to_dict()
    said = tuple(map(str, result["warnings"]))  # type: ignore[call-overload]
    for key in ("digest", "version", "warnings"):
        del result[key]
    return json.dumps(result | {"layout": scenario.model.name}, sort_keys=True), said


def simulated(content: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the result of a scenario without its fingerprints, and its warnings."""
    return _simulated(json.dumps(content, sort_keys=True))


def test_each_field_has_an_example_or_a_reason() -> None:
    known = {path for path in paths() if path.rpartition(".")[2] not in _OF_EVERY_ENTRY}
    shown = EXAMPLES.keys() | DESCRIBES.keys()
    assert sorted(known - shown) == [], "add an example to tests/laws/field_examples.py"
    assert sorted(shown - known) == [], "no such field any more"


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_a_result_changes_with_the_field_alone(path: str) -> None:
    settings, value = EXAMPLES[path]
    without = document(BASE, settings)
    with_it = copy.deepcopy(without)
    put(with_it, path.split("."), value)
    assert simulated(without)[0] != simulated(with_it)[0]


@pytest.mark.parametrize("path", sorted(path for path in EXAMPLES if not path.startswith(_ENTRIES)))
@pytest.mark.parametrize("layer", [ALONE, SLOW_NETWORK], ids=["one GPU", "sixteen GPUs"])
def test_a_setting_without_effect_is_named(path: str, layer: Mapping[str, object]) -> None:
    """On one GPU most settings of a layout are idle; none may be so in silence.

    Sixteen GPUs have a slow network, so that no communication is hidden.
    """
    base = document(BASE, layer)
    changed = document(BASE, layer)
    put(changed, path.split("."), EXAMPLES[path][1])
    try:
        result, warnings = simulated(changed)
    except ScenarioError:
        return
    if changed != base and result == simulated(base)[0]:
        assert any(path in warning for warning in warnings)
