"""Bytes of a parameter in each of its copies: weights, what travels, optimizer state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT
from simulator.workload.layers.low_precision import quantisation
from simulator.workload.parameters.counts import weight_bytes

if TYPE_CHECKING:
    from simulator.scenario import Scenario

_FULL_STATE_BYTES = 12.0
"""An fp32 master copy and two fp32 moments, which the stacks' optimizer traffic is counted for."""


def gathered_bytes(scenario: Scenario) -> float:
    """Return the bytes of one weight as data-parallel ranks gather it.

    MX and NVFP4 weights are gathered in 16 bits and converted after that: their two layouts have different
    scales, neither of which follows from the other (Megatron-Core, ``reuse_grad_buf_for_mxfp8_param_ag``).
    """
    quantised = quantisation(scenario)
    if scenario.training.low_precision_params and quantised is not None and quantised.recipe.gathers_params:
        return quantised.recipe.element_bytes
    return weight_bytes(scenario)


def low_copy_bytes(scenario: Scenario) -> float:
    """Return the bytes of the low-precision copies of one weight that stay through the step."""
    quantised = quantisation(scenario)
    return 0.0 if quantised is None or quantised.recasts else quantised.written_bytes


def layer_weight_bytes(scenario: Scenario) -> float:
    """Return the bytes that one weight of a layer takes: in 16 bits, in low precision, or in both.

    Transformer Engine keeps low-precision copies from the first micro-batch on; with weights stored in low
    precision (``fp8_param_gather``) there is no 16-bit one.
    """
    low = low_copy_bytes(scenario)
    if low and scenario.training.low_precision_params:
        return low
    return weight_bytes(scenario) + low


def state_bytes(scenario: Scenario) -> float:
    """Return the bytes of one parameter's optimizer state: its master copy, where it needs one, and moments.

    fp32 master and moments: arXiv:1710.03740, arXiv:1412.6980; 16-bit moments: Megatron-Core's
    precision-aware optimizer, arXiv:2412.19437, section 3.3.
    """
    training = scenario.training
    master = float(BYTES_PER_ELEMENT[training.master_dtype])
    moments = 2.0 * BYTES_PER_ELEMENT[training.moment_dtype]
    return moments if weight_bytes(scenario) >= master else master + moments


def update_bytes(scenario: Scenario) -> float:
    """Return the traffic of updating one parameter: smaller state is read and written faster."""
    training = scenario.training
    state = float(BYTES_PER_ELEMENT[training.master_dtype]) + 2.0 * BYTES_PER_ELEMENT[training.moment_dtype]
    return scenario.software.optimizer_bytes_per_parameter - 2.0 * (_FULL_STATE_BYTES - state)


def weight_cast_bytes(scenario: Scenario) -> float:
    """Return the traffic per weight of making its low-precision copies once per step.

    Weights that were gathered in low precision only lack their other layout.
    """
    quantised = quantisation(scenario)
    if quantised is None or quantised.recasts:
        return 0.0
    each = quantised.recipe.element_bytes
    if scenario.training.low_precision_params and quantised.recipe.gathers_params:
        return 2.0 * each if quantised.layouts == 2 else 0.0
    reads = 2 if quantised.recipe.reads_first else 1
    return reads * weight_bytes(scenario) + quantised.written_bytes
