"""Schemas of entries, derived from the dataclasses that they become; ``scenario.stated`` has the rules.

bucket_bytes: Annotated[float, Gt(0)]       the field of Software
bucket: Sourced[Annotated[float, ...]]      what ``derived`` adds to SoftwareEntry, and a file states
{"bucket_bytes": Sourced(value=1e8, ...)}   what ``numbers_of`` finds in an entry
Software(bucket_bytes=1e8, ...)             what ``assembled`` makes of it
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata
from pydantic import create_model

from simulator.documents import Sourced, Strict, quantity
from simulator.scenario.stated import FITTED, MEASURED, Assumed, Key
from simulator.units import Dimension, split_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Data = TypeVar("Data")
Schema = TypeVar("Schema", bound=Strict)
Value = TypeVar("Value")
Numbers = dict[str, Sourced[Any]]
"""Numbers with their sources by path of the dataclass's field: ``bucket_bytes``, ``power.idle``."""
_NOT_STATED = frozenset({"name", "sources"})
"""What an entry says of itself as a whole."""


def assumed(value: Value, why: str) -> Sourced[Value]:
    """Return a default that the entry may replace."""
    return Sourced(value=value, source=why, kind="assumed")


def derived(
    data: type, *, sourced: bool = True, sections: Mapping[str, str] | None = None
) -> Callable[[type[Schema]], type[Schema]]:
    """Decorate a schema that becomes a dataclass: it gets the fields that it does not declare itself.

    Args:
        data: The dataclass.
        sourced: Whether each value in a file may name its source.
        sections: What the mappings mean that keys such as ``memory.capacity`` make, by name.
    """

    def derive(schema: type[Schema]) -> type[Schema]:
        statements = [part for part in _statements(data) if part.path[0] not in schema.model_fields]
        return _schema(schema.__name__, schema, statements, sourced=sourced, sections=sections or {})

    return derive


def fitted_fields(data: type) -> dict[str, bool]:
    """Return the fields that are fitted unless an entry states them, and whether each may be assumed."""
    return {
        part.field: any(isinstance(mark, Assumed) for mark in part.marks)
        for part in _statements(data)
        if FITTED in part.marks
    }


def numbers_of(entry: Strict, data: type) -> Numbers:
    """Return what an entry states, or assumes where it does not, by field of the dataclass."""
    numbers: Numbers = {}
    for statement in _statements(data):
        node: Any = entry
        for key in statement.path:
            node = getattr(node, key)
        if isinstance(node, Sourced):
            numbers[statement.field] = node
        elif node is not None:
            inner = node if isinstance(node, dict) else numbers_of(node, statement.type)
            numbers |= {f"{statement.field}.{key}": number for key, number in inner.items()}
    return numbers


def assembled(data: type[Data], numbers: Numbers, **given: object) -> Data:
    """Return the dataclass with these numbers; what they lack has its default.

    Args:
        data: The dataclass.
        numbers: By path of the field.
        given: Further fields.
    """
    for statement in _statements(data):
        name = statement.field
        inner = {
            path.removeprefix(f"{name}."): number
            for path, number in numbers.items()
            if path.startswith(f"{name}.")
        }
        if name in numbers:
            given[name] = statement.value(numbers[name].value)
        elif inner:
            values = {str(key): number.value for key, number in inner.items()}
            given[name] = assembled(statement.type, inner) if statement.is_section else values
    return data(**given)


def copied(entry: Strict, data: type[Data], **given: object) -> Data:
    """Return the dataclass with the values of an entry whose values name no sources.

    Args:
        entry: The entry.
        data: The dataclass.
        given: Fields that are not as in the entry.
    """
    values = {part.field: part.value(getattr(entry, part.path[0])) for part in _statements(data)}
    return data(**values | given)


@dataclass(frozen=True, slots=True)
class _Statement:
    """How a file states one field.

    Attributes:
        data: The dataclass.
        field: Name in it.
        path: Keys in the file, from the outermost.
        type: Its bare type, without None.
        default: Value of the dataclass; MISSING where it must be stated.
        marks: Bounds, and what ``scenario.stated`` has.
        dimension: What a quantity measures; None for anything else.
    """

    data: type
    field: str
    path: tuple[str, ...]
    type: Any
    default: Any
    marks: tuple[object, ...]
    dimension: Dimension | None

    @property
    def is_section(self) -> bool:
        """Whether it is a mapping of further fields."""
        return is_dataclass(self.type)

    def value(self, stated: Any) -> object:  # noqa: ANN401  anything that a file may hold
        """Return a value of the file as the dataclass holds it."""
        if isinstance(stated, Strict):
            return copied(stated, self.type)
        if get_origin(self.type) in {tuple, frozenset} and isinstance(stated, list):
            return get_origin(self.type)(stated)
        return float(stated) if self.type is float and stated is not None else stated

    def annotation(self, *, sourced: bool) -> tuple[Any, Any]:
        """Return what pydantic reads in its place, and the default; ``...`` where it must be stated."""
        kind = self._kind(sourced=sourced)
        if sourced and not self.is_section:
            kind = Sourced[kind]  # type: ignore[valid-type]  # built at run time
        why = next((mark.why for mark in self.marks if isinstance(mark, Assumed)), None)
        if self.default is None or (FITTED in self.marks and why is None):
            return kind | None, None
        if self.default is MISSING or (sourced and why is None):  # a file has no default without a reason
            return kind, ...
        default = list(self.default) if isinstance(self.default, tuple | frozenset) else self.default
        return kind, assumed(default, why) if sourced and why else default

    def _kind(self, *, sourced: bool) -> Any:  # noqa: ANN401  annotations have no common type
        if self.is_section:
            name, inner = _entry_name(self.path[-1]), _statements(self.type)
            return _schema(name, Strict, inner, sourced=sourced, doc=self.type.__doc__)
        if get_origin(self.type) in {tuple, frozenset}:
            return list[get_args(self.type)[0]]  # type: ignore[misc]  # built at run time
        bounds = [mark for mark in self.marks if isinstance(mark, BaseMetadata)]
        unit = quantity(self.dimension) if self.dimension else ()
        return Annotated[(self.type, *unit, *bounds)] if unit or bounds else self.type


def _read_statements(data: type) -> tuple[_Statement, ...]:
    hints = get_type_hints(data, include_extras=True)
    statements = (_statement(data, field, hints[field.name]) for field in fields(data))
    return tuple(part for part in statements if part.field not in _NOT_STATED and MEASURED not in part.marks)


_statements: Callable[[type], tuple[_Statement, ...]] = cache(_read_statements)


def _statement(data: type, field: Field[Any], hint: Any) -> _Statement:  # noqa: ANN401
    bare, marks = _parts(hint)
    key, dimension = split_unit(field.name)
    key = next((mark.path for mark in marks if isinstance(mark, Key)), key)
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return _Statement(data, field.name, tuple(key.split(".")), bare, default, marks, dimension)


def _parts(hint: Any) -> tuple[Any, tuple[object, ...]]:  # noqa: ANN401
    """Split a hint into its type, without None, and what is said of it."""
    marks: list[object] = []
    while True:
        if get_origin(hint) is Annotated:
            hint, *more = get_args(hint)
            marks += more
        elif NoneType in get_args(hint):
            hint = Union[tuple(part for part in get_args(hint) if part is not NoneType)]  # noqa: UP007
        else:
            return hint, tuple(marks)


def _schema(
    name: str,
    base: type[Schema],
    statements: Iterable[_Statement],
    *,
    sourced: bool,
    sections: Mapping[str, str] | None = None,
    doc: str | None = None,
) -> type[Schema]:
    """Return a schema with a field for each statement, and one for all that share their first key."""
    by_key: dict[str, list[_Statement]] = {}
    for statement in statements:
        by_key.setdefault(statement.path[0], []).append(statement)
    definitions: dict[str, Any] = {}
    for key, group in by_key.items():
        if len(group[0].path) == 1:
            definitions[key] = group[0].annotation(sourced=sourced)
            continue
        inner = [replace(statement, path=statement.path[1:]) for statement in group]
        section = _schema(_entry_name(key), Strict, inner, sourced=sourced, doc=(sections or {})[key])
        is_required = any(info.is_required() for info in section.model_fields.values())
        definitions[key] = section, ... if is_required else section.model_construct()
    created = create_model(
        name, __base__=base, __doc__=doc or base.__doc__, __module__=base.__module__, **definitions
    )
    created.origins = {
        key: (part.data, part.field) for key, (part, *_) in by_key.items() if len(part.path) == 1
    }
    created.model_rebuild()  # now, so that what holds it need not build it once more
    return created


def _entry_name(key: str) -> str:
    return "".join(word.title() for word in key.split("_")) + "Entry"
