"""What of a pipeline stage decides how many parameters it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.parallelism import VocabularyMethod
    from simulator.scenario.parameters import LayerKey, ModelParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutline:
    """A stage without its place in the model.

    Attributes:
        layers: For each of its layers, whether it has experts, and what it is in a hybrid model.
        has_embedding: Whether it holds the token embedding.
        has_head: Whether it holds the final norm, the vocabulary head and the loss.
        predictions: Multi-token-prediction modules that it holds.
        table_share: Part of the embedding's and of the head's rows that it holds, where all ranks share them.
    """

    layers: tuple[LayerKey, ...]
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


@lru_cache(maxsize=4096)
def outlines(
    model: ModelParameters, stage_layers: tuple[int, ...], table_ranks: int = 0
) -> tuple[StageOutline, ...]:
    """Return the outline of every stage, in model order.

    Args:
        model: What the layers are.
        stage_layers: Layers of each stage.
        table_ranks: Pipeline ranks that share the vocabulary's tables, each a part of both with its first
            chunk; 0 where the stages with embedding and head hold them.
    """
    last = len(stage_layers) - 1
    stages: list[StageOutline] = []
    first = 0
    for index, count in enumerate(stage_layers):
        outline = StageOutline(
            layers=model.layers[first : first + count],
            has_embedding=index == 0,
            has_head=index == last,
            predictions=model.modules if index == last else 0,
            table_share=1 / table_ranks if index < table_ranks else 0.0,
        )
        stages.append(_interned(outline))
        first += count
    return tuple(stages)


def ranks_sharing_tables(vocabulary: VocabularyMethod, pp: int) -> int:
    """Return how many pipeline ranks share the vocabulary's tables; 0: those with embedding and head do."""
    return 0 if vocabulary == "none" else pp


@lru_cache(maxsize=4096)
def _interned(outline: StageOutline) -> StageOutline:
    """Return the same object for equal outlines: nothing is compared faster."""
    return outline
