"""What if? Many simulations of related scenarios."""

from simulator.explore.sweep import SweepPoint, SweepTable, sweep

__all__ = ["SweepPoint", "SweepTable", "sweep"]
