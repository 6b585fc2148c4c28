"""Turn a published row into a scenario, saying what had to be assumed."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, get_args

from simulator import catalogue
from simulator.files import from_document
from simulator.scenario.parallelism import VocabularyMethod
from simulator.validation.assumptions import Assumptions
from simulator.validation.clusters import cluster_document
from simulator.validation.degrees import Degrees, row_degrees
from simulator.validation.expert_settings import (
    DISPATCHER,
    expert_degrees,
    expert_overlap,
    recipe_settings,
)
from simulator.validation.kernels import attention_choice, software_choice
from simulator.validation.memory_settings import precision_settings, recompute_settings, sharding_settings
from simulator.validation.models import model_document
from simulator.validation.row_settings import over_document
from simulator.validation.stacks import stack_defaults
from simulator.validation.stages import (
    full_stages,
    redistributed_layers,
    stage_layers,
    stages_of_modules,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario
    from simulator.validation.rows import Row

VOCABULARY_METHODS = get_args(VocabularyMethod)[1:]


def to_scenario(row: Row) -> tuple[Scenario, tuple[str, ...]]:
    """Turn a row into a scenario.

    Returns:
        The scenario, and what had to be assumed, the scenario's own warnings included.

    Raises:
        RowError: See ``row_document``.
        ScenarioError: The row describes a set-up that breaks a scenario's rules.
    """
    document, warnings = row_document(row)
    scenario = from_document(document, row.id)
    return scenario, warnings + scenario.warnings


def row_document(row: Row) -> tuple[dict[str, object], tuple[str, ...]]:
    """Write a row as a scenario document.

    Returns:
        The document in the scenario-file format, and what had to be assumed.

    Raises:
        RowError: The row contradicts itself, lacks what nothing can stand in for, or asks for what cannot be
            simulated yet.
    """
    software, is_very_stack = catalogue.software_for_stack(row.software)
    assumptions = Assumptions(stack_defaults(row.software), software, row.settings)
    if not is_very_stack:
        assumptions.note(
            f"stack {row.stack or 'not stated'!r} is not in the catalogue: {software!r} is simulated"
        )
    cluster = cluster_document(row, assumptions)
    model = model_document(row, assumptions)
    layers = int(str(model["num_hidden_layers"]))
    degrees = row_degrees(row, str(cluster["gpu"]), layers, assumptions)
    has_experts = "experts" in model
    parallelism = {
        **_parallelism(row, degrees, assumptions),
        **sharding_settings(row, degrees, assumptions),
        **expert_degrees(row, degrees, assumptions, has_experts=has_experts),
        **_layers(row, model, degrees.pp * degrees.vpp, assumptions),
        **({"vocabulary": row.method} if row.method in VOCABULARY_METHODS else {}),
    }
    training, settings = _training(row, degrees, assumptions, has_experts=has_experts)
    document: dict[str, object] = {
        "name": row.id,
        "cluster": cluster,
        "model": model,
        "parallelism": parallelism,
        "training": training,
        "software": software_choice(row, assumptions),
    }
    return over_document(document, settings), tuple(assumptions.sentences)


def _parallelism(row: Row, degrees: Degrees, assumptions: Assumptions) -> dict[str, object]:
    sequence_parallel = False
    if degrees.tp > 1:
        usual = assumptions.defaults.sequence_parallel
        sequence_parallel = assumptions.default("sequence parallelism", row.parallel.sequence_parallel, usual)
    return {
        "tp": degrees.tp,
        "pp": degrees.pp,
        "vpp": degrees.vpp,
        "cp": degrees.cp,
        "ep": degrees.ep,
        "dp": degrees.dp,
        "sequence_parallel": sequence_parallel,
        "schedule": _schedule(row, degrees),
    }


def _schedule(row: Row, degrees: Degrees) -> str:
    usual = "interleaved" if degrees.vpp > 1 else "1f1b"
    if degrees.pp == 1 or row.schedule is None or row.schedule in {"interleaved", "1f1b"}:
        return usual
    return row.schedule


def _layers(
    row: Row, model: Mapping[str, object], stages: int, assumptions: Assumptions
) -> dict[str, object]:
    """State the partition where it is not even."""
    layers = int(str(model["num_hidden_layers"]))
    if row.method == "redis" and stages > 1:
        hidden, vocabulary = int(str(model["hidden_size"])), int(str(model["vocab_size"]))
        # 24 h^2 + 4 s h FLOPs per token and layer (Narayanan et al.) against 2 h V of the head.
        head = vocabulary / (12 * hidden + 2 * (row.seq_len or 0))
        return {"layers": list(redistributed_layers(layers, stages, head))}
    if "parallelism.layers" in row.settings:
        return {}
    before, behind = assumptions.defaults.even_with
    if stages == 1 or (layers % stages == 0 and not before + behind):
        return {}
    if before + behind:
        split = stages_of_modules(layers, stages, before, behind)
    elif assumptions.defaults.fills_stages and (layers + 2) % stages:
        split = full_stages(layers, stages)
    else:
        split = stage_layers(layers, stages)
    runs = ", ".join(f"{len(list(equal))} x {size}" for size, equal in groupby(split))
    assumptions.note(f"partition of {layers} layers not stated: stages of {runs}")
    return {"layers": list(split)}


def _training(
    row: Row, degrees: Degrees, assumptions: Assumptions, *, has_experts: bool
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the training section, and the settings of the row and its recipe that go over the document."""
    document: dict[str, object] = {
        "seq_length": assumptions.default("sequence length", row.seq_len, assumptions.defaults.seq_length),
        "micro_batch_size": degrees.micro_batch,
        "global_batch_size": degrees.global_batch,
        **precision_settings(row, assumptions),
        **recompute_settings(row, assumptions),
    }
    of_recipe = recipe_settings(
        row, degrees, assumptions, has_experts=has_experts, recompute=document["recompute"]
    )
    settings = of_recipe | row.settings
    overlap = _overlap(row, degrees, assumptions)
    if has_experts and degrees.ep > 1:
        overlap |= expert_overlap(row, settings, assumptions)
        if DISPATCHER not in settings:
            assumptions.stack_default("dispatcher of experts")
    document["overlap"] = overlap
    return document | attention_choice(row, assumptions), settings


def _overlap(row: Row, degrees: Degrees, assumptions: Assumptions) -> dict[str, object]:
    """State what the row states; the software's habit holds for the rest."""
    axes = (
        ("dp", row.overlap.dp, ("grad_reduce", "param_gather"), degrees.dp * degrees.cp),
        ("pp", row.overlap.pp, ("p2p",), degrees.pp),
        ("tp", row.overlap.tp, ("tp",), degrees.tp),
    )
    releases = assumptions.defaults.releases_of(row)
    in_one_queue = row.parallel.fsdp is not None and any(old.fsdp_in_one_queue for old in releases)
    document: dict[str, object] = {}
    for axis, stated, keys, ranks in axes:
        if ranks == 1:
            continue
        if stated is None and axis == "dp" and in_one_queue:
            assumptions.note(
                "overlap of dp communication not stated: gathers alone, as streams share one queue"
            )
            document["grad_reduce"] = False
        elif stated is None:
            assumptions.stack_default(
                f"overlap of {axis} communication", *(f"training.overlap.{key}" for key in keys)
            )
        else:
            document |= dict.fromkeys(keys, stated)
    return document
