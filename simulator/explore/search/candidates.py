"""Layouts that may still be best, as columns that shrink while the search goes on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.explore.search.layer_classes import Floats
    from simulator.explore.search.space import Bools, Ints


@dataclass(slots=True, kw_only=True)
class Candidates:
    """Layouts with their bounds.

    Attributes:
        region: Which set of layouts each belongs to.
        family: Its family there.
        pair: Its pair of a shape and a way of running layers, in the family.
        step: Its way of running steps.
        score: No layout scores less than this.
        pace: None takes fewer seconds per token.
        memory: None holds less than this, in bytes.
        with_topology: Whether the bound ran the layers instead of counting kernels only.
    """

    region: Ints
    family: Ints
    pair: Ints
    step: Ints
    score: Floats
    pace: Floats
    memory: Floats
    with_topology: Bools

    def __len__(self) -> int:
        return len(self.score)

    def take(self, chosen: Ints | Bools) -> Candidates:
        """Return some of the layouts."""
        return Candidates(**{part.name: getattr(self, part.name)[chosen] for part in fields(self)})

    @classmethod
    def joined(cls, parts: Iterable[Candidates]) -> Candidates:
        """Return the layouts of all parts."""
        found = list(parts)
        if not found:
            empty = np.zeros(0, dtype=np.int64)
            return cls(
                region=empty,
                family=empty,
                pair=empty,
                step=empty,
                score=np.zeros(0),
                pace=np.zeros(0),
                memory=np.zeros(0),
                with_topology=np.zeros(0, dtype=np.bool_),
            )
        return cls(
            **{
                part.name: np.concatenate([getattr(each, part.name) for each in found])
                for part in fields(cls)
            }
        )
