"""What if? Many simulations of related scenarios."""

from simulator.explore.point import SweepPoint
from simulator.explore.sweep import SweepTable, sweep

__all__ = ["SweepPoint", "SweepTable", "sweep"]
