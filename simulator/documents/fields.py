"""What file schemas are made of: strict mappings, numbers that name their source, and types of fields.

Quantities have units, whole numbers sane ranges.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  pydantic reads it
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import core_schema

from simulator.scenario.provenance import Kind, Provenance
from simulator.scenario.stated import MAX_GPUS, MAX_SIZE
from simulator.units import Dimension, parse_quantity

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

Value = TypeVar("Value")


class Strict(BaseModel):
    """A mapping in a file: unknown keys are errors, nothing is converted, nothing can be changed later."""

    origins: ClassVar[Mapping[str, tuple[type, str]]] = {}
    """Where the sentence that explains a key stands, if not here: a dataclass, and its field."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        hide_input_in_errors=True,
        defer_build=True,
    )


class Sourced(Strict, Generic[Value]):
    """A value with its origin: ``{value: 80 GB, source: "vendor datasheet", kind: datasheet}``.

    A bare value is accepted too, as the user's own assumption.
    """

    value: Value
    source: str = Field(min_length=1)
    kind: Kind = "datasheet"

    if not TYPE_CHECKING:

        def __class_getitem__(cls, kind: object) -> object:
            """Return what pydantic reads: of a mapping a schema of its own, so that its keys are known."""
            is_mapping = isinstance(kind, type) and issubclass(kind, BaseModel)
            return super().__class_getitem__(kind) if is_mapping else Annotated[cls, _Of(kind)]

    @model_validator(mode="before")
    @classmethod
    def _with_source(cls, value: object) -> object:
        return _with_source(value)

    @property
    def provenance(self) -> Provenance:
        """Where the value comes from."""
        return Provenance(self.kind, self.source)


def _with_source(value: object) -> object:
    """Complete a bare value, as the user's own assumption."""
    if isinstance(value, dict):
        return value
    return {"value": value, "source": "stated without a source", "kind": "assumed"}


def _sourced(stated: dict[str, Any]) -> Sourced[Any]:
    """Return checked keys as a ``Sourced``; it knows whether its kind was stated."""
    return Sourced.model_construct(set(stated), **stated)


class _Of:
    """Makes pydantic read a ``Sourced`` of one kind of value without building a class for each kind."""

    _OTHERS: ClassVar = {
        "source": core_schema.typed_dict_field(core_schema.str_schema(min_length=1)),
        "kind": core_schema.typed_dict_field(core_schema.literal_schema([*get_args(Kind)]), required=False),
    }

    def __init__(self, kind: object) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        value = core_schema.typed_dict_field(handler.generate_schema(self.kind))
        strictly = core_schema.CoreConfig(strict=True, allow_inf_nan=False, extra_fields_behavior="forbid")
        keys = core_schema.typed_dict_schema({"value": value, **self._OTHERS}, config=strictly)
        stated = core_schema.no_info_before_validator_function(_with_source, keys)
        dump = core_schema.plain_serializer_function_ser_schema(BaseModel.model_dump)
        return core_schema.no_info_after_validator_function(_sourced, stated, serialization=dump)


_MEANINGS = {
    Dimension.TIME: "a time",
    Dimension.BYTES: "a size",
    Dimension.BYTES_PER_S: "a rate (b is a bit, B a byte)",
    Dimension.FLOP_PER_S: "a compute rate",
    Dimension.POWER: "a power",
    Dimension.FREQUENCY: "a frequency",
    Dimension.TOKENS: "a number of tokens",
    Dimension.MONEY_PER_HOUR: "a price",
}


@cache
def quantity(dimension: Dimension) -> tuple[BeforeValidator, WithJsonSchema, FieldInfo]:
    """Return what makes a float of a field one that is written with its unit."""

    def read(value: object) -> float:
        return parse_quantity(value, dimension)

    text = f"{_MEANINGS[dimension]}, with its unit, for example {dimension.value!r}"
    kinds = ["string", "number"] if dimension is Dimension.TOKENS else "string"
    shown = WithJsonSchema({"type": kinds, "description": text, "examples": [dimension.value]})
    return BeforeValidator(read), shown, Field(allow_inf_nan=False)


Seconds = Annotated[float, *quantity(Dimension.TIME)]
Bytes = Annotated[float, *quantity(Dimension.BYTES)]
BytesPerSecond = Annotated[float, *quantity(Dimension.BYTES_PER_S)]
FlopPerSecond = Annotated[float, *quantity(Dimension.FLOP_PER_S)]
Watts = Annotated[float, *quantity(Dimension.POWER)]
Hertz = Annotated[float, *quantity(Dimension.FREQUENCY)]
Tokens = Annotated[float, *quantity(Dimension.TOKENS)]
DollarsPerHour = Annotated[float, *quantity(Dimension.MONEY_PER_HOUR)]

PositiveBytes = Annotated[Bytes, Field(gt=0)]
PositiveBytesPerSecond = Annotated[BytesPerSecond, Field(gt=0)]
PositiveFlopPerSecond = Annotated[FlopPerSecond, Field(gt=0)]
PositiveTokens = Annotated[Tokens, Field(gt=0)]

GpuCount = Annotated[int, Field(ge=1, le=MAX_GPUS)]
"""Ranks of a job or of one axis; ten million is ten times the largest planned cluster."""
PositiveCount = Annotated[int, Field(ge=1, le=MAX_SIZE)]
"""A size such as a width, a sequence length or a batch."""
Count = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
