"""What the works of a step are made of, beside its layout and the kinds of its stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.grid import Mesh
from simulator.workload.layers.low_precision import quantisation
from simulator.workload.layers.settings import layer_settings
from simulator.workload.parameters.model_states import ModelStates
from simulator.workload.step.end_works import norm_work
from simulator.workload.step.messages import message_bytes_of
from simulator.workload.step.units import UnitCopying

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.scenario.parallelism import VocabularyMethod
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.work import Collective


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """What the works of a step are made of.

    Attributes:
        layers: What its layers have in common.
        states: How weights, gradients and optimizer state are kept.
        copying: Copies of FSDP's units.
        mesh: Where ranks lie.
        vocabulary: How the output layer is divided among pipeline ranks.
        message_bytes: What one rank sends to the next pipeline stage for each micro-batch.
        ties_embeddings: Whether the first and the last stage hold copies of one table.
        gradient_norm: The sum over all ranks that the gradient norm takes, or None.
        amax_ranks: Ranks that agree on the largest value of each tensor (delayed scaling); 0 for none.
    """

    layers: LayerSettings
    states: ModelStates
    copying: UnitCopying
    mesh: Mesh[int]
    vocabulary: VocabularyMethod
    message_bytes: float
    ties_embeddings: bool
    gradient_norm: Collective | None
    amax_ranks: int

    @classmethod
    def of(cls, scenario: Scenario) -> StepSettings:
        """Return those of a scenario."""
        parallelism, software = scenario.parallelism, scenario.software
        mesh = Mesh.of(parallelism)
        quantised = quantisation(scenario)
        ranks = mesh.gpus // mesh.pp
        agrees = quantised is not None and bool(quantised.recipe.history) and ranks > 1
        return cls(
            layers=layer_settings(scenario),
            states=ModelStates.of(scenario),
            copying=UnitCopying(
                whole=software.unshard_copies, part_by_part=software.gathers_tensor_by_tensor
            ),
            mesh=mesh,
            vocabulary=parallelism.vocabulary,
            message_bytes=message_bytes_of(scenario),
            ties_embeddings=scenario.model.tie_word_embeddings and mesh.pp > 1,
            gradient_norm=norm_work(mesh.gpus, post_validation=scenario.training.post_validation),
            amax_ranks=ranks if agrees else 0,
        )
