"""The schema of a whole scenario file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.documents import Name, Strict
from simulator.files.cluster_section import ClusterSection  # noqa: TC001  pydantic reads it
from simulator.files.named import ModelChoice, SoftwareChoice  # noqa: TC001  pydantic reads them
from simulator.files.search_section import SearchSection  # noqa: TC001  pydantic reads it
from simulator.files.sections import (
    MeasuredSection,
    ParallelismSection,
    SimulationSection,
    SweepSection,
    TrainingSection,
)


class ScenarioFile(Strict):
    """A training set-up to simulate."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    """Version of this format."""
    name: Name | None = None
    """What reports call the scenario; default: the name of the file."""
    base: str | None = Field(default=None, min_length=1)
    """Another scenario file, relative to this one, whose settings hold unless this file changes them."""
    cluster: ClusterSection
    """The hardware of the job."""
    model: ModelChoice
    """A catalogue name (`simulator list models`), `{hf_config: path}`, or the fields inline
    with Hugging Face's names."""
    parallelism: ParallelismSection = ParallelismSection()
    """How the model and the batch are divided among the accelerators."""
    training: TrainingSection
    """What one training step does."""
    software: SoftwareChoice = "megatron-core"
    """Training stack: a catalogue name (`simulator list software`) or an inline entry."""
    simulation: SimulationSection = SimulationSection()
    """How to simulate."""
    sweep: SweepSection | None = None
    """What `simulator sweep` varies and draws."""
    search: SearchSection | None = None
    """What `simulator search` may change, and what it looks for."""
    measured: MeasuredSection | None = None
    """A published result to show beside the prediction."""
