"""What makes GPUs of one job differ, and one step from the next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """GPUs that compute or communicate slower than the others for the whole job.

    Attributes:
        gpus: Their global ranks; empty where ``count`` says how many are drawn.
        count: GPUs to draw at random.
        slowdown: Time of their kernels over the usual one.
        bandwidth: Share of the scale-out bandwidth that their network links reach.
    """

    gpus: tuple[int, ...] = ()
    count: int = 0
    slowdown: float = 1.0
    bandwidth: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Random and persistent differences, for Monte Carlo over steps.

    Attributes:
        kernel_jitter: Standard deviation of a layer's time on one GPU from step to step, relative.
        speed_spread: Standard deviation of sustained speed among the job's GPUs, relative; None: the GPU's.
        expert_imbalance: Mean excess of the busiest expert rank's tokens over the mean, in each layer anew.
        stragglers: GPUs that are known to be slow, or drawn to be.
    """

    kernel_jitter: float = 0.0
    speed_spread: float | None = None
    expert_imbalance: float = 0.0
    stragglers: tuple[Straggler, ...] = ()


QUIET = Noise()
