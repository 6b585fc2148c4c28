"""Bytes of a parameter in each of its copies: weights, what travels, optimizer state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from simulator.workload.layers.local_sizes import BYTES_PER_ELEMENT, wide_dtype

if TYPE_CHECKING:
    from simulator.scenario import Software, Training
    from simulator.workload.layers.low_precision import Quantisation

_FULL_STATE_BYTES = 12.0
"""An fp32 master copy and two fp32 moments, which the stacks' optimizer traffic is counted for."""
_MASTER_BYTES = 4
"""An fp32 master copy of each weight (mixed-precision training, arXiv:1710.03740)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParameterBytes:
    """Bytes of one parameter in each of its copies, and as these are passed over; one object for equal ones.

    Attributes:
        weight: The weight as the forward pass reads it outside quantised layers.
        layer_weight: A weight of a layer: in 16 bits, in low precision, or in both. Transformer Engine keeps
            low-precision copies from the first micro-batch on; with weights stored in low precision
            (``fp8_param_gather``) there is no 16-bit one.
        gathered: The weight as data-parallel ranks gather it. MX and NVFP4 weights are gathered in 16 bits
            and converted after that: their two layouts have different scales, neither of which follows from
            the other (Megatron-Core, ``reuse_grad_buf_for_mxfp8_param_ag``).
        made: The gradient as a backward pass makes it.
        gradient: The gradient as it is accumulated.
        reduced: The gradient as it travels.
        state: Optimizer state: a master copy, where it needs one, and two moments. fp32 master and moments:
            arXiv:1710.03740, arXiv:1412.6980; 16-bit moments: Megatron-Core's precision-aware optimizer,
            arXiv:2412.19437, section 3.3.
        update: Traffic of the optimizer's update: smaller state is read and written faster.
        cast: Traffic of making the weight's low-precision copies once per step.
    """

    weight: float
    layer_weight: float
    gathered: float
    made: float
    gradient: float
    reduced: float
    state: float
    update: float
    cast: float

    @property
    def has_master(self) -> bool:
        """Whether the optimizer keeps a wider copy of each weight."""
        return self.weight < _MASTER_BYTES

    @staticmethod
    def of(training: Training, software: Software, quantised: Quantisation | None) -> ParameterBytes:
        """Return what the number formats of a training and its stack take.

        Args:
            training: The number formats.
            software: The stack.
            quantised: How operands of the GEMMs inside layers get their low precision, or None.
        """
        wide = wide_dtype(training.precision)
        return _parameter_bytes(
            training.param_dtype or wide,
            wide,
            training.grad_dtype,
            training.reduce_dtype or training.grad_dtype,
            training.master_dtype,
            training.moment_dtype,
            software.optimizer_bytes_per_parameter,
            training.low_precision_params,
            quantised,
        )


@lru_cache(maxsize=1024)
def _parameter_bytes(
    param_dtype: str,
    wide_dtype: str,
    grad_dtype: str,
    reduce_dtype: str,
    master_dtype: str,
    moment_dtype: str,
    optimizer_bytes: float,
    low_precision_params: bool,
    quantised: Quantisation | None,
) -> ParameterBytes:
    weight, master = float(BYTES_PER_ELEMENT[param_dtype]), float(BYTES_PER_ELEMENT[master_dtype])
    moments = 2.0 * BYTES_PER_ELEMENT[moment_dtype]
    low = 0.0 if quantised is None or quantised.recasts else quantised.written_bytes
    gathers_low = low_precision_params and quantised is not None and quantised.recipe.gathers_params
    return ParameterBytes(
        weight=weight,
        layer_weight=low if low and low_precision_params else weight + low,
        gathered=quantised.recipe.element_bytes if quantised is not None and gathers_low else weight,
        made=float(BYTES_PER_ELEMENT[wide_dtype]),
        gradient=float(BYTES_PER_ELEMENT[grad_dtype]),
        reduced=float(BYTES_PER_ELEMENT[reduce_dtype]),
        state=moments if weight >= master else master + moments,
        update=optimizer_bytes - 2.0 * (_FULL_STATE_BYTES - (master + moments)),
        cast=_cast_bytes(weight, quantised, gathers_low=gathers_low),
    )


def _cast_bytes(weight: float, quantised: Quantisation | None, *, gathers_low: bool) -> float:
    """Return the traffic of a weight's casts; one gathered in low precision only lacks the other layout."""
    if quantised is None or quantised.recasts:
        return 0.0
    if gathers_low:
        return 2.0 * quantised.recipe.element_bytes if quantised.layouts == 2 else 0.0
    reads = 2 if quantised.recipe.reads_first else 1
    return reads * weight + quantised.written_bytes
