"""The best layout: enumerate, bound, simulate what may still win."""

from simulator.explore.search.find import search
from simulator.explore.search.table import Layout, Ranked, SearchTable

__all__ = ["Layout", "Ranked", "SearchTable", "search"]
