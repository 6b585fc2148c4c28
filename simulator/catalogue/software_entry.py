"""Schema of a software stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator

from simulator.catalogue.derive import Numbers, assembled, derived, numbers_of
from simulator.catalogue.entry import Entry
from simulator.catalogue.lookup import find
from simulator.catalogue.training import stack_habits, typical_habits
from simulator.documents import Name, Sourced, Strict
from simulator.scenario import Overlap, Software


@derived(Overlap, sourced=False)
class OverlapEntry(Strict):
    """Which communication runs beside computation."""


@derived(Software)
class SoftwareEntry(Entry):
    """A training stack's habits."""

    entry_kind: ClassVar[str] = "software"

    overlap: Sourced[OverlapEntry]
    """What it overlaps unless the scenario says otherwise."""
    matches: list[Name] = Field(default=[])
    """Regular expressions of the names under which publications mention exactly this stack."""
    nearest_for: list[Name] = Field(default=[])
    """Regular expressions of the names of other stacks that this one stands in for."""

    @field_validator("overlap", mode="before")
    @classmethod
    def _bare_overlap(cls, value: object) -> object:
        """Accept the switches without ``value:`` around them."""
        if isinstance(value, Mapping) and "value" not in value:
            return {"value": value, "source": "stated without a source", "kind": "assumed"}
        return value

    @classmethod
    def fitted(cls, name: str) -> Mapping[str, object]:
        """Return what was fitted to a stack's published runs."""
        return _as_fields(stack_habits(find("software", name)))

    @classmethod
    def typical(cls) -> Mapping[str, object]:
        """Return what a stack has that was fitted to no runs and states nothing else."""
        return _as_fields(typical_habits())

    def to_scenario(self, name: str) -> Software:
        """Return the stack as scenario data, with the provenance of every number.

        What was fitted to its own runs counts, else what it states, else what is typical.
        """
        own = {} if self.like else stack_habits(name)  # those of the other stack are stated already
        numbers = typical_habits() | numbers_of(self, Software) | own
        return assembled(Software, numbers, name=self.name or name, sources=self.sources_of(numbers))


def _as_fields(numbers: Numbers) -> dict[str, object]:
    """Return fitted numbers as a file would state them."""
    return {
        key.removesuffix("_s"): {
            "value": f"{number.value:g} s" if key.endswith("_s") else number.value,
            "source": number.source,
            "kind": number.kind,
        }
        for key, number in numbers.items()
    }
