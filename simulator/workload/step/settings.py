"""What the works of a step are made of, beside the order of its ops."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

from simulator.scenario.parallelism import Parallelism
from simulator.scenario.training import Overlap, Training
from simulator.workload.grid import Mesh
from simulator.workload.layers.plan import PlanOptions
from simulator.workload.layers.settings import layer_settings
from simulator.workload.parameters.model_states import ModelStates
from simulator.workload.parameters.stage_outline import ranks_sharing_tables
from simulator.workload.step.end_works import norm_work
from simulator.workload.step.messages import stage_message_bytes
from simulator.workload.step.stages import StageKinds, stage_kinds
from simulator.workload.step.units import UnitCopying

if TYPE_CHECKING:
    from collections.abc import Hashable

    from simulator.scenario import Scenario
    from simulator.scenario.parallelism import VocabularyMethod
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.work import Collective


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndSettings:
    """What the works are made of that end a step; one object for equal ones.

    Attributes:
        states: How weights, gradients and optimizer state are kept.
        apart: Distance between neighbouring pipeline ranks in global rank numbering.
        ties_embeddings: Whether the first and the last stage hold copies of one table.
        gradient_norm: The sum over all ranks that the gradient norm takes, or None.
        amax_ranks: Ranks that agree on the largest value of each tensor (delayed scaling); 0 for none.
    """

    states: ModelStates
    apart: int
    ties_embeddings: bool
    gradient_norm: Collective | None
    amax_ranks: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepSettings:
    """What the works of a step are made of; one object for equal ones.

    Attributes:
        stages: The kinds of its stages.
        layers: What its layers have in common.
        copying: Copies of FSDP's units.
        mesh: Where ranks lie.
        vocabulary: How the output layer is divided among pipeline ranks.
        message_bytes: What one rank sends to the next pipeline stage for each micro-batch.
        end: What the works are made of that end it.
    """

    stages: StageKinds
    layers: LayerSettings
    copying: UnitCopying
    mesh: Mesh[int]
    vocabulary: VocabularyMethod
    message_bytes: float
    end: EndSettings

    @property
    def states(self) -> ModelStates:
        """How weights, gradients and optimizer state are kept."""
        return self.end.states


NOT_READ = frozenset(
    {
        "training.global_batch_size",
        "training.tokens",
        "training.overlap.grad_reduce",
        "training.overlap.p2p",
        "parallelism.vpp",
        "parallelism.microbatch_group_size",
        "parallelism.reduce_every_microbatch",
    }
)
"""Settings of layout and training that no work depends on: scenarios that differ in these share all works.

A search asks for thousands of these. Of the global batch size it matters whether there is one micro-batch.
"""


def _paths(kind: type, name: str) -> list[str]:
    """Return the dotted paths of settings that works may depend on."""
    paths: list[str] = []
    for field in fields(kind):
        path = f"{name}.{field.name}"
        if field.name == "overlap":
            paths += _paths(Overlap, path)
        elif path not in NOT_READ:
            paths.append(path)
    return paths


_read = attrgetter(
    "model",
    "software",
    "cluster.gpu",
    *_paths(Parallelism, "parallelism"),
    *_paths(Training, "training"),
)
_MOST = 16384
_end_settings = lru_cache(maxsize=_MOST)(EndSettings)
_step_settings = lru_cache(maxsize=_MOST)(StepSettings)
_kept: dict[Hashable, StepSettings] = {}


def step_settings(scenario: Scenario) -> StepSettings:
    """Return what the works of a scenario's step are made of; kept by all that they may depend on."""
    key = _read(scenario), scenario.num_microbatches == 1
    settings = _kept.get(key)
    if settings is None:
        if len(_kept) >= _MOST:
            _kept.clear()
        settings = _kept[key] = settings_of(scenario)
    return settings


def forget() -> None:
    """Drop all settings."""
    _kept.clear()


def settings_of(scenario: Scenario) -> StepSettings:
    """Work out what ``step_settings`` keeps."""
    model, parallelism = scenario.model, scenario.parallelism
    training, software = scenario.training, scenario.software
    mesh = Mesh.of(parallelism)
    layers = layer_settings(scenario)
    sizes, quantised = layers.sizes, layers.sizes.quantisation
    ranks = mesh.gpus // mesh.pp
    agrees = quantised is not None and bool(quantised.recipe.history) and ranks > 1
    end = _end_settings(
        states=ModelStates.of(scenario, quantised),
        apart=mesh.stride("pp"),
        ties_embeddings=model.tie_word_embeddings and mesh.pp > 1,
        gradient_norm=norm_work(mesh.gpus, post_validation=training.post_validation),
        amax_ranks=ranks if agrees else 0,
    )
    return _step_settings(
        stages=stage_kinds(
            model,
            parallelism.stage_layers,
            ranks_sharing_tables(parallelism.vocabulary, parallelism.pp),
            PlanOptions.of(training, model.num_hidden_layers, stops_early=software.recompute_stops_early),
            training.mean_document_length,
        ),
        layers=layers,
        copying=UnitCopying(
            whole_unit=software.unshard_copies, shard_by_shard=software.gathers_tensor_by_tensor
        ),
        mesh=mesh,
        vocabulary=parallelism.vocabulary,
        message_bytes=stage_message_bytes(sizes, model.hidden_size, whole_messages=software.whole_messages),
        end=end,
    )
