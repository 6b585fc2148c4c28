"""Other spellings of keys, as users of other tools know them; renamed before merging and checking."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from simulator.documents.document import Document, Path, Place, dotted
from simulator.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Also:
    """Another key for the same setting; put it into the field's ``Annotated``.

    Attributes:
        key: The other spelling, for example ``tensor_model_parallel_size``.
        values: Translation of values written under that key, for example ``{True: "zero1"}``.
    """

    key: str
    values: Mapping[object, object] = field(default_factory=dict, hash=False)

    def translate(self, value: object) -> object:
        """Return the value in this package's words; an unknown value stays as it is."""
        for theirs, ours in self.values.items():
            if type(theirs) is type(value) and theirs == value:
                return ours
        return value


def fields(schema: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a schema by the key that a file uses."""
    return {info.alias or name: info for name, info in schema.model_fields.items()}


def aliases(schema: type[BaseModel]) -> dict[str, tuple[str, Also]]:
    """Return every other spelling of the keys of ``schema``, with the key it stands for."""
    return {
        also.key: (name, also)
        for name, info in fields(schema).items()
        for also in info.metadata
        if isinstance(also, Also)
    }


def known_keys(schema: type[BaseModel]) -> list[str]:
    """Return all keys that ``schema`` understands, other spellings last."""
    return [*fields(schema), *aliases(schema)]


def branches(annotation: Any) -> Iterator[Any]:  # noqa: ANN401  annotations have no common type
    """Yield the members of an annotation, without ``Annotated`` and unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from branches(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for member in get_args(annotation):
            yield from branches(member)
    else:
        yield annotation


def schemas_of(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401
    """Return the mappings that an annotation allows."""
    found = branches(annotation)
    return [branch for branch in found if isinstance(branch, type) and issubclass(branch, BaseModel)]


def schema_of(annotation: Any, data: object) -> type[BaseModel] | None:  # noqa: ANN401
    """Return the mapping that ``data`` is meant to be: of those allowed, the one it shares most keys with."""
    keys = set(data) if isinstance(data, Mapping) else set()
    return max(schemas_of(annotation), key=lambda schema: len(keys & set(known_keys(schema))), default=None)


def item_of(annotation: Any) -> Any:  # noqa: ANN401
    """Return the annotation of the items of a list or of the values of a mapping, or None."""
    for branch in branches(annotation):
        origin = get_origin(branch)
        if isinstance(origin, type) and issubclass(origin, Mapping | Sequence):
            args = [argument for argument in get_args(branch) if argument is not Ellipsis]
            return args[-1]
    return None


def canonical(document: Document, schema: type[BaseModel]) -> Document:
    """Return the document with every other spelling replaced by the schema's own.

    Raises:
        ScenarioError: One setting is given under two names.
    """
    renaming = _Renaming(document)
    data = renaming.value(document.data, schema, (), ())
    if renaming.problems:
        raise ScenarioError(renaming.problems)
    return Document(data, document.name, renaming.keys, renaming.values)


class _Renaming:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}

    def value(self, data: object, annotation: object, old: Path, new: Path) -> object:
        if old in self.document.values:
            self.values[new] = self.document.values[old]
        if isinstance(data, Mapping):
            return self._mapping(data, annotation, old, new)
        if isinstance(data, list | tuple):
            item = item_of(annotation)
            return [self.value(part, item, (*old, i), (*new, i)) for i, part in enumerate(data)]
        return data

    def _mapping(
        self, data: Mapping[object, object], annotation: object, old: Path, new: Path
    ) -> dict[str, object]:
        schema = schema_of(annotation, data)
        others = aliases(schema) if schema else {}
        renamed: dict[str, object] = {}
        for raw, value in data.items():
            key = str(raw)
            name, also = others.get(key, (key, None))
            if name in renamed:  # only another spelling can meet itself: YAML keys are unique
                self._given_twice(key, name, old, new)
            if (*old, key) in self.document.keys:
                self.keys[(*new, name)] = self.document.keys[(*old, key)]
            info = fields(schema).get(name) if schema else None
            inner = info.annotation if info else None if schema else item_of(annotation)
            kept = also.translate(value) if also else value
            renamed[name] = self.value(kept, inner, (*old, key), (*new, name))
        return renamed

    def _given_twice(self, key: str, name: str, old: Path, new: Path) -> None:
        place = self.document.key_place((*old, key))
        message = f"{name!r} is given twice, the second time as {key!r}"
        self.problems.append(place.problem(message, dotted((*new, name))))
