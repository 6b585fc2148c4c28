"""Sizes of one rank's share of a micro-batch and of a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.workload.grid import Mesh
from simulator.workload.layers.low_precision import is_low, quantisation

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.layers.low_precision import Quantisation
    from simulator.workload.work import Group

BYTES_PER_ELEMENT = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "fp4": 0.5}
VOCABULARY_MULTIPLE = 128
"""Megatron pads the vocabulary to a multiple of 128 rows per tensor-parallel rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSizes:
    """Sizes that every layer list needs.

    Attributes:
        sequences: Sequences of a micro-batch.
        tokens: Tokens of a micro-batch on one context-parallel rank.
        divided_tokens: Tokens of the regions between tensor-parallel blocks: divided by tp with sequence
            parallelism.
        sequence_parallel: Whether these regions are divided along the sequence.
        dtype: Number format of everything but the GEMMs inside layers.
        heads: Query heads on this rank.
        kv_heads: Key and value heads on this rank.
        intermediate: Feed-forward width on this rank.
        vocabulary: Vocabulary rows on this rank, padded.
        tp: Tensor-parallel group.
        cp: Context-parallel group.
        quantisation: How operands of the GEMMs inside layers get their low precision, or None.
    """

    sequences: int
    tokens: int
    divided_tokens: int
    sequence_parallel: bool
    dtype: str
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tp: Group
    cp: Group
    quantisation: Quantisation | None = None

    @property
    def element_bytes(self) -> float:
        """Bytes of one activation."""
        return BYTES_PER_ELEMENT[self.dtype]

    @property
    def gemm_dtype(self) -> str:
        """Number format of the GEMMs inside layers."""
        return self.dtype if self.quantisation is None else self.quantisation.recipe.dtype

    @property
    def operand_bytes(self) -> float:
        """Bytes of one value of a GEMM's input as it is gathered."""
        if self.quantisation is None or self.quantisation.recipe.keeps_wide:
            return self.element_bytes
        return self.quantisation.recipe.element_bytes

    @property
    def promotes(self) -> bool:
        """Whether low-precision products add up scaled partial sums outside the matrix units."""
        return self.quantisation is not None and self.quantisation.promotes

    def in_high_precision(self) -> LocalSizes:
        """Return the same sizes for a layer whose GEMMs run in 16 bits."""
        return replace(self, quantisation=None)


def local_sizes(scenario: Scenario) -> LocalSizes:
    """Work out the sizes of one rank's share."""
    model, parallelism, training = scenario.model, scenario.parallelism, scenario.training
    tp, mesh = parallelism.tp, Mesh.of(parallelism)
    tokens = training.micro_batch_size * training.seq_length // parallelism.cp
    return LocalSizes(
        sequences=training.micro_batch_size,
        tokens=tokens,
        divided_tokens=tokens // tp if parallelism.sequence_parallel else tokens,
        sequence_parallel=parallelism.sequence_parallel,
        dtype=wide_dtype(training.precision),
        heads=model.num_attention_heads // tp,
        kv_heads=max(1, model.num_key_value_heads // tp),
        intermediate=model.intermediate_size // tp,
        vocabulary=vocabulary_rows(model.vocab_size, tp),
        tp=mesh.group("tp"),
        cp=mesh.group("cp"),
        quantisation=quantisation(
            training.precision,
            scenario.cluster.gpu.peak_flop_per_s,
            low_precision_params=training.low_precision_params,
            casts_every_pass=scenario.software.casts_every_pass,
            fuses_amax="amax" in scenario.software.fused,
        ),
    )


def vocabulary_rows(vocab_size: int, tp: int) -> int:
    """Return the vocabulary rows on one rank, padded.

    >>> vocabulary_rows(50257, 8)
    6400
    """
    return math.ceil(vocab_size / (tp * VOCABULARY_MULTIPLE)) * VOCABULARY_MULTIPLE


def wide_dtype(precision: str) -> str:
    """Return the number format of everything but the GEMMs inside layers.

    >>> [wide_dtype(precision) for precision in ("fp16", "fp8-mx")]
    ['fp16', 'bf16']
    """
    return "bf16" if is_low(precision) else precision
