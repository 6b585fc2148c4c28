"""Layers with experts: routing, the way of tokens to experts and back, and the experts themselves."""

from simulator.workload.layers.experts.layer import expert_steps

__all__ = ["expert_steps"]
