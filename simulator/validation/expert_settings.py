"""How a row's experts are divided and reached: by its settings, its recipe, or as its software does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator import catalogue
from simulator.errors import RowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.assumptions import Assumptions
    from simulator.validation.degrees import Degrees
    from simulator.validation.rows import Row

DISPATCHER = "training.experts.dispatcher"
OVERLAP = "training.overlap.ep"
_BETWEEN_RANKS = (DISPATCHER, "training.experts.dispatch_dtype", OVERLAP)
"""Settings that mean something only where experts lie on several ranks."""


def expert_degrees(
    row: Row, degrees: Degrees, assumptions: Assumptions, *, has_experts: bool
) -> dict[str, object]:
    """Return expert tensor parallelism; nothing where it equals tp, Megatron-Core's default.

    Raises:
        RowError: The ranks of a pipeline stage do not fold into so many expert-parallel ones.
    """
    ranks = degrees.tp * degrees.cp * degrees.dp
    if has_experts and ranks % degrees.ep:
        text = f"ep {degrees.ep} does not divide the {ranks} ranks of a pipeline stage"
        raise RowError(f"row contradicts itself: {text}")
    if not has_experts or degrees.tp == 1 or "parallelism.etp" in row.settings:
        return {}
    if assumptions.defaults.experts_without_tp:
        return {"etp": assumptions.default("expert tensor parallelism", None, 1)}
    if degrees.dp * degrees.cp % degrees.ep:
        assumptions.note("expert tensor parallelism not stated: 1, as ep does not divide dp x cp")
        return {"etp": 1}
    assumptions.note("expert tensor parallelism not stated: as tp, the default of Megatron-Core")
    return {}


def recipe_settings(
    row: Row, degrees: Degrees, assumptions: Assumptions, *, has_experts: bool, recompute: object
) -> dict[str, object]:
    """Return the settings of a row's recipe, as far as they have an effect and the row does not set them.

    Args:
        row: The row.
        degrees: Its degrees of parallelism.
        assumptions: Takes what cannot be simulated.
        has_experts: Whether its model has experts.
        recompute: How much the row recomputes.
    """
    settings = {
        path: value
        for path, value in assumptions.defaults.recipe(row).settings.items()
        if path not in row.settings
        and (has_experts or not path.startswith("training.experts."))
        and (recompute == "selective" or path != "training.recompute_modules")
        and ((has_experts and degrees.ep > 1) or path not in _BETWEEN_RANKS)
    }
    if settings.get(OVERLAP) and degrees.pp > 1 and degrees.vpp == 1:
        assumptions.note("overlap of expert communication needs several chunks per rank: it is not simulated")
        settings[OVERLAP] = False
    if settings:
        assumptions.note(f"not stated, as recipes of the release set it: {', '.join(sorted(settings))}")
    return settings


def expert_overlap(row: Row, settings: Mapping[str, object], assumptions: Assumptions) -> dict[str, object]:
    """Return whether shared experts hide the exchanges: recipes of such models say so with an all-to-all.

    Args:
        row: A row whose experts lie on several ranks.
        settings: Settings of the row and of its recipe.
        assumptions: Takes what had to be assumed.
    """
    if OVERLAP in settings or "training.overlap.shared_experts" in settings:
        return {}
    dispatcher = settings.get(DISPATCHER) or catalogue.software(assumptions.software).dispatcher
    overlaps = assumptions.defaults.overlaps_shared_experts
    if not overlaps or not row.arch.shared_experts or dispatcher != "alltoall":
        return {}
    assumptions.note(
        f"shared experts run beside the exchanges among experts: {assumptions.defaults.name}'s recipes"
    )
    return {"shared_experts": True}
