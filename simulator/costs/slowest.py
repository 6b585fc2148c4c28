"""How much a job of many GPUs waits for its slowest one."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist


@cache
def slowest_factor(spread: float, gpus: int) -> float:
    """Return the compute time of the slowest of ``gpus`` over that of a typical one.

    GPUs of one type sustain different clocks (silicon, cooling). Collectives and pipelines make all wait for
    the slowest, whose expected distance from the mean is that of the largest of n normal values: Blom's
    approximation, Statistical Estimates and Transformed Beta-Variables, 1958, equation 6.9.1.

    Args:
        spread: Standard deviation of sustained speed among GPUs, relative to the mean.
        gpus: GPUs of the job.

    >>> slowest_factor(0.02, 1)
    1.0
    >>> round(slowest_factor(0.02, 8), 4), round(slowest_factor(0.02, 16384), 4)
    (1.0287, 1.0791)
    """
    if gpus == 1 or not spread:
        return 1.0
    expected = NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25))
    return 1.0 + spread * expected
