"""The outcome of one validation row: a prediction beside the measurement, or why it was skipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.validation.compare import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOutcome:
    """The outcome of one row: a comparison, or the reason why there is none.

    Attributes:
        id: The row's id.
        source: Name of its file without the suffix.
        gpu: Accelerator as the row names it.
        stack: Software as the row names it.
        precision: Precision as simulated.
        has_experts: Whether the model is a mixture of experts.
        sweep: What it shares with the rows that differ from it in their layout only.
        doubtful: Whether its own source leaves doubt about it.
        unseen_error: Error with constants that were fitted without its source, if that was asked for.
        comparison: Prediction beside measurement; None for a skipped row.
        skipped: Why the row was skipped, in full; None for a simulated one.
        reason: What it is counted under.
        warnings: What had to be assumed.
    """

    id: str
    source: str
    gpu: str
    stack: str = ""
    precision: str = ""
    has_experts: bool = False
    sweep: str = ""
    doubtful: bool = False
    unseen_error: float | None = None
    comparison: Comparison | None = None
    skipped: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the row as plain data: stable keys, null for what does not exist."""
        found = self.comparison
        return {
            "id": self.id,
            "source": self.source,
            "gpu": self.gpu,
            "stack": self.stack,
            "precision": self.precision,
            "metric": found.metric if found else None,
            "predicted": found.predicted if found else None,
            "published": found.published if found else None,
            "error": found.error if found else None,
            "error_without_its_source": self.unseen_error,
            "flops_convention": found.convention if found else None,
            "measured_tflops_per_gpu": found.measured_tflops if found else None,
            "predicted_memory_bytes": found.predicted_memory_bytes if found else None,
            "published_memory_bytes": found.published_memory_bytes if found else None,
            "memory_error": found.memory_error if found else None,
            "fits": found.fits if found else None,
            "skipped": self.skipped,
            "reason": self.reason,
            "warnings": list(self.warnings),
        }
