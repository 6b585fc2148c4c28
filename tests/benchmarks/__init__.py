"""Measurements of this machine; deselected unless asked for."""
