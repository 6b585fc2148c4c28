"""What the layers of a scenario have in common: all that is read to build one, beside its kind and plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.architecture import Architecture, KernelOptions
from simulator.workload.layers.core_attention import AttentionOptions
from simulator.workload.layers.embedding_and_head import LossOptions
from simulator.workload.layers.experts.token_load import ExpertOptions
from simulator.workload.layers.local_sizes import LocalSizes, local_sizes
from simulator.workload.layers.lower import LayerOptions
from simulator.workload.pipeline import splits_backward

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerSettings:
    """What the layers of a scenario have in common; one object for all that are equal.

    Attributes:
        sizes: Sizes of one rank's share.
        model: What layers are in the model.
        kernels: Which kernels the software runs for them.
        options: How they are run.
        attention: How attention runs.
        experts: How tokens reach their experts, or None.
        loss: How head and loss run.
        cuda_graphs: Modules whose kernels CUDA graphs launch.
        splits_backward: Whether weight gradients are passes of their own.
    """

    sizes: LocalSizes
    model: Architecture
    kernels: KernelOptions
    options: LayerOptions
    attention: AttentionOptions
    experts: ExpertOptions | None
    loss: LossOptions
    cuda_graphs: frozenset[str]
    splits_backward: bool


_layer_settings = lru_cache(maxsize=4096)(LayerSettings)


def layer_settings(scenario: Scenario) -> LayerSettings:
    """Return what the layers of a scenario have in common; one object for all that are equal."""
    parallelism, training, software = scenario.parallelism, scenario.training, scenario.software
    shares_vocabulary = parallelism.vocabulary != "none"
    return _layer_settings(
        sizes=local_sizes(scenario),
        model=Architecture.of(scenario.model),
        kernels=KernelOptions.of(software),
        options=LayerOptions.of(training, software, scenario.num_microbatches),
        attention=AttentionOptions.of(training.attention, training.seq_length, parallelism, software),
        experts=None if scenario.model.experts is None else ExpertOptions.of(training, parallelism),
        loss=LossOptions.of(software, chunks=training.loss_chunks, shares_vocabulary=shares_vocabulary),
        cuda_graphs=frozenset(training.cuda_graphs),
        splits_backward=splits_backward(parallelism.schedule, parallelism.schedule_rows),
    )
