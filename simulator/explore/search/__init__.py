"""The best layout: enumerate, bound, simulate what may still win."""
