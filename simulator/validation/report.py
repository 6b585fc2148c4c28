"""What a validation says: every row, simulated or skipped with its reason, and the summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from simulator.validation.campaign import Campaign, campaigns, predicted_speeds
from simulator.validation.layout_sweeps import LayoutSweep, layout_sweeps
from simulator.validation.leave_one_out import fits_without
from simulator.validation.statistics import ErrorSummary, constant_errors, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from simulator.validation.compare import Comparison
    from simulator.validation.components import ComponentOutcome
    from simulator.validation.fits import FitsReport
    from simulator.validation.measured_times import TimedRow
    from simulator.validation.outcome import RowOutcome


_DENSE_SOURCES = (
    "megatron",
    "nemo",
    "dgxc",
    "hagemann2023",
    "korthikanti",
    "narayanan",
)


def _dense_ampere_and_hopper(row: RowOutcome) -> bool:
    return (
        not row.has_experts and row.gpu.startswith(("a100", "h100")) and row.source.startswith(_DENSE_SOURCES)
    )


SETS: Mapping[str, Callable[[RowOutcome], bool]] = {
    "all": lambda _: True,
    "sources that the fit of training has seen": lambda row: row.source in fits_without(),
    "sources that it has not seen": lambda row: row.source not in fits_without(),
    "dense, A100 and H100, Megatron and NeMo": _dense_ampere_and_hopper,
    "mixture of experts, Hopper": lambda row: (
        row.has_experts and row.gpu.startswith(("h100", "h200", "h800"))
    ),
    "mixture of experts, Blackwell": lambda row: row.has_experts and row.gpu.startswith(("b", "gb")),
    "FSDP (llm-foundry, torchtitan)": lambda row: row.source in {"llm_foundry", "torchtitan"},
    "Korthikanti 2022": lambda row: row.source == "korthikanti_2022",
    "vTrain": lambda row: row.source.startswith("vtrain"),
    "Llama 3 405B (arXiv:2407.21783)": lambda row: row.id.startswith("llama3-herd-t4-405b"),
    "TPU": lambda row: row.gpu.startswith("tpu"),
}
"""Membership by name of the set."""


WORST_ROWS = 20


@dataclass(frozen=True)
class ValidationReport:
    """All rows of a validation.

    Attributes:
        rows: Their outcomes, in the order of the files.
        timed: Rows simulated once more with their own measured times of passes and messages.
        components: Parts of a step beside measurements of the same parts.
        fits: Runs that finished and runs that ran out of memory, if they were judged.
    """

    rows: tuple[RowOutcome, ...]
    timed: tuple[TimedRow, ...] = ()
    components: tuple[ComponentOutcome, ...] = ()
    fits: FitsReport | None = None

    @cached_property
    def simulated(self) -> tuple[tuple[RowOutcome, Comparison], ...]:
        """The rows that were simulated, each with its comparison."""
        return tuple((row, row.comparison) for row in self.rows if row.comparison is not None)

    @cached_property
    def skipped_by_reason(self) -> dict[str, int]:
        """How many rows were skipped for each reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.rows if row.reason is not None).most_common())

    @cached_property
    def _baseline(self) -> list[float]:
        return constant_errors(
            [found.measured_tflops for _, found in self.simulated],
            [(row.source, row.gpu, row.precision) for row, _ in self.simulated],
        )

    @property
    def errors(self) -> ErrorSummary | None:
        """Throughput errors of all simulated rows that are not doubtful; None where there are none."""
        return self._summary(lambda row: not row.doubtful)

    @property
    def by_source(self) -> dict[str, ErrorSummary | None]:
        """Throughput errors by source; None for a source of which no row was simulated."""
        return self._grouped(lambda row: row.source)

    @property
    def by_gpu(self) -> dict[str, ErrorSummary | None]:
        """Throughput errors by accelerator."""
        return self._grouped(lambda row: row.gpu)

    @property
    def by_set(self) -> dict[str, ErrorSummary | None]:
        """Throughput errors by the kind of run that a user has in mind."""

        def of(belongs: Callable[[RowOutcome], bool]) -> ErrorSummary | None:
            return self._summary(lambda row: belongs(row) and not row.doubtful)

        return {name: of(belongs) for name, belongs in SETS.items()}

    @property
    def unseen_errors(self) -> ErrorSummary | None:
        """Throughput errors with constants that were fitted without each row's source."""
        errors = [row.unseen_error for row in self.rows if row.unseen_error is not None]
        return summarise(errors, [0.0] * len(errors))

    @cached_property
    def layout_sweeps(self) -> tuple[LayoutSweep, ...]:
        """How well layouts of one model on one cluster are ordered."""
        return layout_sweeps(self.simulated)

    @property
    def campaigns(self) -> tuple[Campaign, ...]:
        """GPU hours of whole campaigns."""
        return campaigns(predicted_speeds(self.rows))

    @property
    def memory_errors(self) -> ErrorSummary | None:
        """Errors of the peak memory, predicted over measured less one, where rows state it."""
        errors = [found.memory_error for _, found in self.simulated if found.memory_error is not None]
        return summarise(errors, [0.0] * len(errors))

    @property
    def timed_errors(self) -> ErrorSummary | None:
        """Errors of the rows that are simulated with their own measured times."""
        errors = [row.error for row in self.timed]
        return summarise(errors, [0.0] * len(errors))

    def worst(self, count: int = WORST_ROWS) -> Sequence[tuple[RowOutcome, Comparison]]:
        """Return the rows of the largest absolute errors, the largest first."""
        return sorted(self.simulated, key=lambda pair: (-abs(pair[1].error), pair[0].id))[:count]

    def to_dict(self) -> dict[str, object]:
        """Return the report as plain data for JSON."""
        memory = self.memory_errors
        summary: dict[str, object] = {
            "rows": len(self.rows),
            "simulated": len(self.simulated),
            "skipped": len(self.rows) - len(self.simulated),
            "skipped_by_reason": self.skipped_by_reason,
            "doubtful": [row.id for row in self.rows if row.doubtful],
            "errors": _plain(self.errors),
            "by_source": {name: _plain(summary) for name, summary in self.by_source.items()},
            "by_gpu": {name: _plain(summary) for name, summary in self.by_gpu.items()},
            "by_set": {name: _plain(summary) for name, summary in self.by_set.items()},
            "leave_one_source_out": _plain(self.unseen_errors),
            "fits_or_not": self.fits.to_dict() if self.fits else None,
            "campaigns": [campaign.to_dict() for campaign in self.campaigns],
            "layout_sweeps": [asdict(sweep) for sweep in self.layout_sweeps],
            "memory_errors": _plain(memory),
            "worst": [row.id for row, _ in self.worst()],
        }
        return {
            "summary": summary,
            "rows": [row.to_dict() for row in self.rows],
            "measured_times": {
                "errors": _plain(self.timed_errors),
                "rows": [row.to_dict() for row in self.timed],
            },
            "components": [part.to_dict() for part in self.components],
        }

    def _summary(self, belongs: Callable[[RowOutcome], bool]) -> ErrorSummary | None:
        members = [index for index, (row, _) in enumerate(self.simulated) if belongs(row)]
        errors = [self.simulated[index][1].error for index in members]
        return summarise(errors, [self._baseline[index] for index in members])

    def _grouped(self, key: Callable[[RowOutcome], str]) -> dict[str, ErrorSummary | None]:
        def of(name: str) -> ErrorSummary | None:
            return self._summary(lambda row: key(row) == name)

        return {name: of(name) for name in sorted({key(row) for row in self.rows})}


def _plain(summary: ErrorSummary | None) -> dict[str, object] | None:
    return summary.to_dict() if summary else None
