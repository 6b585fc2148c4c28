"""The JSON Schema of scenario files, for completion and hover help in editors."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from simulator.documents import Sourced, Strict
from simulator.documents.aliases import aliases
from simulator.files.scenario_file import ScenarioFile

if TYPE_CHECKING:
    from pydantic import BaseModel


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file, other spellings of keys included.

    ``schema.json`` beside this module is its text; ``simulator schema`` prints it.
    Nothing is required at the top: a file with a ``base`` may leave out everything else.
    """
    schema = ScenarioFile.model_json_schema(by_alias=True, schema_generator=_WithOtherSpellings)
    for part in (schema, schema["$defs"]["ClusterSection"], schema["$defs"]["TrainingSection"]):
        part.pop("required", None)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "simulator scenario"}
    return {**schema, **head}


class _WithOtherSpellings(GenerateJsonSchema):
    """Adds the other spellings of keys; what they stand for is then not required under its own name."""

    def model_schema(self, schema: Any) -> Any:  # noqa: ANN401  pydantic's core schemas are untyped here
        result: dict[str, Any] = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        properties = result.get("properties", {})
        for name, text in attribute_docstrings(model).items():
            if name in properties:
                properties[name]["description"] = text
        for key, (name, also) in aliases(model).items():
            described = {"description": f"Another spelling of `{name}`."}
            properties[key] = described if also.values else {**properties[name], **described}
            if name in result.get("required", []):
                result["required"] = [required for required in result["required"] if required != name]
        return _bare_or_sourced(result) if issubclass(model, Sourced) else result

    def typed_dict_schema(self, schema: Any) -> Any:  # noqa: ANN401
        return _bare_or_sourced(super().typed_dict_schema(schema))


def _bare_or_sourced(mapping: dict[str, Any]) -> dict[str, Any]:
    value = mapping["properties"]["value"]
    return {"anyOf": [value, mapping], "description": "A value, or a value with its source."}


def attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under each field of a schema and its bases, by the key that a file uses."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, Strict) or base is Strict or "[" in base.__name__:
            continue
        here = {} if base.origins else _sentences(base)
        there = {key: _sentences(data)[field] for key, (data, field) in base.origins.items()}
        texts |= here | there
    sections = ((name, info.annotation) for name, info in model.model_fields.items())
    texts |= {
        name: str(kind.__doc__)
        for name, kind in sections
        if name not in texts and isinstance(kind, type) and issubclass(kind, Strict)
    }
    keys = {name: info.alias or name for name, info in model.model_fields.items()}
    return {keys[name]: text for name, text in texts.items() if name in keys}


@cache
def _sentences(data: type) -> dict[str, str]:
    """Return the text under each field of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(data))).body[0]
    pairs = itertools.pairwise(body.body if isinstance(body, ast.ClassDef) else [])
    return {
        field.target.id: text.replace("\n", " ")
        for field, below in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if (text := ast.get_docstring(ast.Module([below], [])))
    }
