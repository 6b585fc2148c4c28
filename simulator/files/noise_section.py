"""The part of a scenario file that says how GPUs and steps differ, for ``simulator montecarlo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from simulator.documents import Strict
from simulator.scenario.noise import Noise, Straggler

if TYPE_CHECKING:
    from simulator.files.findings import Findings

Spread = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class StragglerSection(Strict):
    """GPUs that are slower than the others for the whole job."""

    gpus: list[Annotated[int, Field(ge=0)]] = Field(default=[])
    """Global ranks, from 0."""
    count: Annotated[int, Field(ge=0)] = 0
    """How many to draw at random instead."""
    slowdown: Annotated[float, Field(ge=1, le=1e3, allow_inf_nan=False)] = 1.0
    """Time of their kernels over the usual one."""
    bandwidth: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Share of the network bandwidth that their links reach."""

    @model_validator(mode="after")
    def _says_which(self) -> StragglerSection:
        if bool(self.gpus) == bool(self.count):
            raise ValueError("name the GPUs with 'gpus: [17]', or say how many are drawn with 'count: 1'")
        return self


class NoiseSection(Strict):
    """What makes GPUs of one job differ, and one step from the next; read by `simulator montecarlo`."""

    kernel_jitter: Spread = 0.0
    """Standard deviation of a layer's time on one GPU from step to step, relative."""
    speed_spread: Spread | None = None
    """Standard deviation of sustained speed among the job's GPUs, relative; default: that of the GPU."""
    expert_imbalance: Annotated[float, Field(ge=0, le=1e3, allow_inf_nan=False)] = 0.0
    """Mean excess of the busiest expert rank's tokens over the mean, drawn for each layer anew."""
    stragglers: list[StragglerSection] = Field(default=[])
    """GPUs that are known to be slow, or drawn to be."""


def noise(section: NoiseSection, gpus: int, findings: Findings) -> Noise:
    """Return a section as scenario data; ranks that the job does not have are problems.

    Args:
        section: The section.
        gpus: GPUs of the job.
        findings: Where problems go.
    """
    for number, straggler in enumerate(section.stragglers):
        path = f"simulation.noise.stragglers.{number}"
        if beyond := [rank for rank in straggler.gpus if rank >= gpus]:
            findings.problem(f"{path}.gpus", f"no GPU {beyond[0]}; ranks go from 0 to {gpus - 1}")
        if straggler.count > gpus:
            findings.problem(f"{path}.count", f"{straggler.count} of {gpus} GPUs; at most {gpus}")
    return Noise(
        kernel_jitter=section.kernel_jitter,
        speed_spread=section.speed_spread,
        expert_imbalance=section.expert_imbalance,
        stragglers=tuple(
            Straggler(gpus=tuple(s.gpus), count=s.count, slowdown=s.slowdown, bandwidth=s.bandwidth)
            for s in section.stragglers
        ),
    )
