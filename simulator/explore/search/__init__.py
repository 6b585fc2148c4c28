"""The best layout: enumerate, bound, simulate what may still win."""

from simulator.explore.search.best_layouts import search
from simulator.explore.search.table import Layout, Ranked, SearchTable

__all__ = ["Layout", "Ranked", "SearchTable", "search"]
