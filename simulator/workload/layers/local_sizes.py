"""Sizes of one rank's share of a micro-batch and of a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.scenario.remembered import remembered
from simulator.scenario.training import number_format
from simulator.workload.grid import ExpertMesh
from simulator.workload.layers.low_precision import is_low, quantisation

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.low_precision import Quantisation
    from simulator.workload.work import Group

BYTES_PER_ELEMENT = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "fp4": 0.5}
VOCABULARY_MULTIPLE = 128
"""Megatron pads the vocabulary to a multiple of 128 rows per tensor-parallel rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Sizes that every layer list needs.

    Attributes:
        sequences: Sequences of a micro-batch.
        tokens: Tokens of a micro-batch on one context-parallel rank.
        divided_tokens: Tokens of the regions between tensor-parallel blocks: divided by tp with sequence
            parallelism.
        element_bytes: Bytes of one activation.
        gemm_dtype: Number format of the GEMMs inside layers.
        dtype: Number format of everything else.
        heads: Query heads on this rank.
        kv_heads: Key and value heads on this rank.
        intermediate: Feed-forward width on this rank.
        vocabulary: Vocabulary rows on this rank, padded.
        tp: Tensor-parallel group.
        cp: Context-parallel group.
        ep: Expert-parallel group.
        quantisation: How operands of the GEMMs inside layers get their low precision, or None.
    """

    sequences: int
    tokens: int
    divided_tokens: int
    element_bytes: float
    gemm_dtype: str
    dtype: str
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tp: Group
    cp: Group
    ep: Group
    quantisation: Quantisation | None = None

    @property
    def operand_bytes(self) -> float:
        """Return the bytes of one value of a GEMM's input as it is gathered."""
        if self.quantisation is None or self.quantisation.recipe.keeps_wide:
            return self.element_bytes
        return self.quantisation.recipe.element_bytes

    @property
    def promotes(self) -> bool:
        """Whether low-precision products add up scaled partial sums outside the matrix units."""
        return self.quantisation is not None and self.quantisation.promotes

    def in_high_precision(self) -> Shapes:
        """Return the same sizes for a layer whose GEMMs run in 16 bits."""
        return replace(self, gemm_dtype=self.dtype, quantisation=None)


@remembered
def shapes_of(scenario: Scenario) -> Shapes:
    """Work out the sizes of one rank's share."""
    model, parallelism, training = scenario.model, scenario.parallelism, scenario.training
    tp = parallelism.tp
    tokens = training.micro_batch_size * training.seq_length // parallelism.cp
    dtype = wide_dtype(scenario)
    experts = ExpertMesh.of(parallelism)
    return Shapes(
        sequences=training.micro_batch_size,
        tokens=tokens,
        divided_tokens=tokens // tp if parallelism.sequence_parallel else tokens,
        element_bytes=BYTES_PER_ELEMENT[dtype],
        gemm_dtype=number_format(training.precision),
        dtype=dtype,
        heads=model.num_attention_heads // tp,
        kv_heads=max(1, model.num_key_value_heads // tp),
        intermediate=model.intermediate_size // tp,
        vocabulary=vocabulary_rows(scenario),
        tp=experts.mesh.group("tp"),
        cp=experts.mesh.group("cp"),
        ep=experts.group("ep"),
        quantisation=quantisation(scenario),
    )


def vocabulary_rows(scenario: Scenario) -> int:
    """Return the vocabulary rows on one rank, padded."""
    per_rank = scenario.parallelism.tp * VOCABULARY_MULTIPLE
    return math.ceil(scenario.model.vocab_size / per_rank) * VOCABULARY_MULTIPLE


def wide_dtype(scenario: Scenario) -> str:
    """Return the number format of everything but the GEMMs inside layers."""
    precision = scenario.training.precision
    return "bf16" if is_low(precision) else precision
