"""Bases of file schemas: strict, frozen, and numbers that name their source."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  pydantic reads it
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from simulator.scenario.provenance import Kind, Provenance

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

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, value: object) -> object:
        if isinstance(value, dict):
            return value
        return {"value": value, "source": "stated without a source", "kind": "assumed"}

    @property
    def provenance(self) -> Provenance:
        """Where the value comes from."""
        return Provenance(self.kind, self.source)


def _name_or_inline(value: object) -> str:
    return "(inline)" if isinstance(value, dict | BaseModel) else "(name)"


Inline = TypeVar("Inline", bound=BaseModel)
NameOr = Annotated[
    Annotated[str, Tag("(name)")] | Annotated[Inline, Tag("(inline)")], Discriminator(_name_or_inline)
]
"""A catalogue name, or the entry itself as a mapping; only the form that was written is checked."""
