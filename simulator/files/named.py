"""What is a catalogue name or an entry written into the file itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag

from simulator import catalogue
from simulator.catalogue import GpuEntry, ModelEntry, NetworkEntry, SoftwareEntry
from simulator.documents import Strict
from simulator.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Callable


class HuggingFaceModel(Strict):
    """A model described by a Hugging Face `config.json`."""

    hf_config: str = Field(min_length=1)
    """Path of the `config.json` (or its folder), relative to this file."""


def _known(look_up: Callable[[str], object]) -> AfterValidator:
    def check(name: str) -> str:
        try:
            look_up(name)
        except CatalogueError as error:
            raise ValueError(str(error)) from None
        return name

    return AfterValidator(check)


def _form(value: object) -> str:
    if isinstance(value, HuggingFaceModel) or (isinstance(value, dict) and "hf_config" in value):
        return "(config.json)"
    return "(inline)" if isinstance(value, dict | BaseModel) else "(name)"


def _name_or_inline(value: object) -> str:
    return "(inline)" if isinstance(value, dict | BaseModel) else "(name)"


GpuChoice = Annotated[
    Annotated[str, _known(catalogue.gpu), Tag("(name)")] | Annotated[GpuEntry, Tag("(inline)")],
    Discriminator(_name_or_inline),
]
NetworkChoice = Annotated[
    Annotated[str, _known(catalogue.network), Tag("(name)")] | Annotated[NetworkEntry, Tag("(inline)")],
    Discriminator(_name_or_inline),
]
SoftwareChoice = Annotated[
    Annotated[str, _known(catalogue.software), Tag("(name)")] | Annotated[SoftwareEntry, Tag("(inline)")],
    Discriminator(_name_or_inline),
]
ModelChoice = Annotated[
    Annotated[str, _known(catalogue.model), Tag("(name)")]
    | Annotated[HuggingFaceModel, Tag("(config.json)")]
    | Annotated[ModelEntry, Tag("(inline)")],
    Discriminator(_form),
]
