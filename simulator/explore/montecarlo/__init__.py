"""Steps on GPUs that differ: what jitter and stragglers cost, by Monte Carlo over steps."""

from simulator.explore.montecarlo.run import MonteCarlo, monte_carlo

__all__ = ["MonteCarlo", "monte_carlo"]
