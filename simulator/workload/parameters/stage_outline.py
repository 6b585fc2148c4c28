"""What of a pipeline stage decides how many parameters it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.model import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A stage without its place in the model.

    Attributes:
        layers: For each of its layers, whether it has experts, and what it is in a hybrid model.
        has_embedding: Whether it holds the token embedding.
        has_head: Whether it holds the final norm, the vocabulary head and the loss.
        predictions: Multi-token-prediction modules that it holds.
        table_share: Part of the embedding's and of the head's rows that it holds, where all ranks share them.
    """

    layers: tuple[tuple[bool, Block], ...]
    has_embedding: bool
    has_head: bool
    predictions: int = 0
    table_share: float = 0.0
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash once: outlines are looked up by far more often than they are made."""
        key = (self.layers, self.has_embedding, self.has_head, self.predictions, self.table_share)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    @property
    def works(self) -> int:
        """Pieces that it runs one after the other; a prediction module is followed by a head of its own."""
        return len(self.layers) + self.has_embedding + self.has_head + 2 * self.predictions


def outlines(scenario: Scenario) -> tuple[Outline, ...]:
    """Return the outline of every stage of a scenario, in model order."""
    model, parallelism = scenario.model, scenario.parallelism
    counts = parallelism.stage_layers
    kinds = [(model.is_moe_layer(layer), model.block(layer)) for layer in range(sum(counts))]
    shares = parallelism.vocabulary != "none"
    last = len(counts) - 1
    found: list[Outline] = []
    first = 0
    for number, count in enumerate(counts):
        outline = Outline(
            layers=tuple(kinds[first : first + count]),
            has_embedding=number == 0,
            has_head=number == last,
            predictions=model.num_nextn_predict_layers if number == last else 0,
            # Each rank holds its part of the tables with its first chunk.
            table_share=1 / parallelism.pp if shares and number < parallelism.pp else 0.0,
        )
        found.append(_one_for_all(outline))
        first += count
    return tuple(found)


@lru_cache(maxsize=4096)
def _one_for_all(outline: Outline) -> Outline:
    """Return the same object for equal outlines: nothing is compared faster."""
    return outline
