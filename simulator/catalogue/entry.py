"""What all catalogue entries share: a title, other names, and a list of sources that numbers refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from simulator.catalogue.lookup import document
from simulator.documents import Name, Sourced, Strict
from simulator.errors import CatalogueError
from simulator.scenario.provenance import Kind, Provenance

_OWN = frozenset({"title", "aliases", "kernels_like"})


class Citation(Strict):
    """A source that several numbers of an entry refer to by a short key."""

    kind: Kind
    text: str = Field(min_length=1)


class Entry(Strict):
    """Base of the entries."""

    entry_kind: ClassVar[str]

    name: Name | None = None
    """What reports call it; the catalogue name otherwise."""
    like: Name | None = None
    """Entry that gives everything that is not stated here."""
    title: str = ""
    """The full name, for people."""
    aliases: list[Name] = Field(default=[])
    """Other names under which the catalogue finds it."""
    sources: dict[str, Citation] = Field(default={})
    """Citations by the short keys that ``source:`` may use."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        if not isinstance(data, Mapping) or not isinstance(data.get("like"), str):
            return data
        try:
            base = document(cls.entry_kind, data["like"]).data
        except CatalogueError as error:
            raise ValueError(f"like: {error}") from None
        assert isinstance(base, Mapping)  # noqa: S101  the catalogue's own file
        base = {**base, **cls.fitted(data["like"])}
        return _merged({key: item for key, item in base.items() if key not in _OWN}, data)

    @classmethod
    def fitted(cls, name: str) -> Mapping[str, object]:
        """Return the fields of an entry that were fitted to measurements, as its file would state them."""
        del name
        return {}

    def sources_of(self, numbers: Mapping[str, Sourced[Any]]) -> dict[str, Provenance]:
        """Return where each number comes from, short keys replaced by their citations."""
        return {path: self._provenance(number) for path, number in numbers.items()}

    def _provenance(self, number: Sourced[Any]) -> Provenance:
        citation = self.sources.get(number.source)
        if citation is None:
            return number.provenance
        kind = number.kind if "kind" in number.model_fields_set else citation.kind
        return Provenance(kind, citation.text)


def _merged(base: object, own: object) -> object:
    """Lay ``own`` over ``base``, key by key, but a number with its source as a whole."""
    if not isinstance(base, Mapping) or not isinstance(own, Mapping) or "value" in {*base, *own}:
        return own
    return {**base, **{key: _merged(base[key], item) if key in base else item for key, item in own.items()}}
