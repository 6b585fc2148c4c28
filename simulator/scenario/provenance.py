"""Where a number comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["datasheet", "measured", "fitted", "assumed"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of one catalogue number.

    Attributes:
        kind: Read on a datasheet, measured, fitted to measurements, or assumed.
        source: Citation: a document, a repository and commit, or the command that reruns the fit.
    """

    kind: Kind
    source: str


Sources = Mapping[str, Provenance]
