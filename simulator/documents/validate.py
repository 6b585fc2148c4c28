"""Schema errors as problems that point into the user's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from simulator.documents.aliases import canonical, fields, item_of, known_keys, schema_of
from simulator.documents.document import Document, Path, dotted
from simulator.documents.messages import message
from simulator.errors import Problem, ScenarioError, did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Schema = TypeVar("Schema", bound=BaseModel)


def validate(document: Document, schema: type[Schema]) -> Schema:
    """Check a document against a schema.

    Args:
        document: Parsed content; other spellings of keys are allowed.
        schema: What it must look like.

    Raises:
        ScenarioError: Every difference, each with its place and the nearest valid key.
    """
    if document.data is None:
        raise ScenarioError([Problem("is empty", file=document.name)])
    if not isinstance(document.data, Mapping):
        place = document.value_place(())
        raise ScenarioError([place.problem(f"expected 'key: value' lines, got {shown(document.data)}")])
    document = canonical(document, schema)
    try:
        return schema.model_validate(document.data)
    except ValidationError as errors:
        found = [_problem(document, schema, error) for error in errors.errors(include_url=False)]
        raise ScenarioError(dict.fromkeys(found)) from None


def shown(value: object) -> str:
    """Write a value of the user's file for a message, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _problem(document: Document, schema: type[BaseModel], error: ErrorDetails) -> Problem:
    path, parent = _locate(document.data, schema, error)
    if error["type"] == "extra_forbidden":
        keys = known_keys(parent) if parent else []
        near = did_you_mean(str(path[-1]), keys)
        text = f"unknown key{near or '; known keys: ' + ', '.join(fields(parent) if parent else [])}"
        return document.key_place(path).problem(text, dotted(path))
    if error["type"] == "missing":
        return document.key_place(path[:-1]).problem(f"the key {str(path[-1])!r} is missing", dotted(path))
    return document.value_place(path).problem(message(error, shown), dotted(path))


def _locate(data: Any, annotation: Any, error: ErrorDetails) -> tuple[Path, type[BaseModel] | None]:  # noqa: ANN401
    """Return the path of an error in the user's data and the schema of the mapping around it.

    Pydantic's location also names members of unions and validators; those are not in the data.
    """
    path: list[str | int] = []
    parent: type[BaseModel] | None = None
    for part in error["loc"]:
        schema = schema_of(annotation, data)
        if isinstance(data, Mapping) and part in data:
            parent = schema
            info = fields(schema).get(str(part)) if schema else None
            annotation = info.annotation if info else item_of(annotation)
            data = data[part]
            path.append(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            annotation, data = item_of(annotation), data[part]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    return tuple(path), parent
