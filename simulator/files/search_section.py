"""What a scenario file may say of a search for the best layout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.documents import Strict
from simulator.scenario.search import Front, RankBy  # noqa: TC001  pydantic reads them

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Values = Annotated[list[str | int | float | bool | list[str] | list[int] | None], Field(min_length=1)]


class SearchSection(Strict):
    """What `simulator search` may change, and what it looks for."""

    free: dict[str, Literal["auto"] | Values] | None = Field(default=None, min_length=1)
    """Settings that the search chooses, by dotted path or short name (tp, mbs, recompute, ...), with the
    values to choose from, or `auto`: every value that makes sense. All others stay as the file has them.
    Default: tp, pp, vpp, cp, ep, layers, sharding, sequence_parallel, mbs and recompute."""
    fix: list[str] = Field(default=[])
    """Settings that stay as the file has them although they would be free; also dp, which else follows."""
    rank_by: RankBy = "throughput"
    """throughput: most tokens per second; cost: fewest GPU hours, or dollars, per token; gpus: fewest GPUs
    that reach tokens_per_s or days."""
    top: Annotated[int, Field(ge=1, le=10_000)] = 10
    """How many of the best layouts to show."""
    front: Front = "none"
    """Show also the layouts that no other beats in both throughput and peak memory, or number of GPUs."""
    tokens_per_s: Positive | None = None
    """Leave out layouts that train on fewer tokens per second."""
    days: Positive | None = None
    """Leave out layouts that take longer for all of training.tokens."""
