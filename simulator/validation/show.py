"""One published row: the scenario that it becomes, what had to be assumed, and its prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator import api
from simulator.errors import InputError, RowError, did_you_mean
from simulator.files import from_document
from simulator.validation.compare import Comparison, compare, stated_metric
from simulator.validation.rows import Row, read_rows
from simulator.validation.to_scenario import row_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from simulator.validation.run import Simulate


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row and what became of it.

    Attributes:
        row: The row.
        document: Its scenario, as a scenario file.
        assumptions: What had to be assumed, a sentence each.
        comparison: Prediction beside measurement.
    """

    row: Row
    document: Mapping[str, object]
    assumptions: tuple[str, ...]
    comparison: Comparison

    def lines(self) -> Iterator[str]:
        """Yield what a reader wants to know before the scenario."""
        row, comparison = self.row, self.comparison
        yield f"{row.id}: {row.stack or 'stack not stated'}"
        yield f"{row.source or 'source not stated'} ({row.cite or 'no citation'})"
        convention = f", FLOPs counted {comparison.convention!r}" if comparison.convention else ""
        numbers = f"predicted {comparison.predicted:.5g}, published {comparison.published:.5g}"
        yield f"{comparison.metric}: {numbers}, throughput {comparison.error:+.1%}{convention}"
        if comparison.memory_error is not None:
            yield f"peak memory: predicted over published {comparison.memory_error:+.1%}"
        yield ""
        yield "Assumed:" if self.assumptions else "Nothing had to be assumed."
        yield from (f"- {sentence}" for sentence in self.assumptions)
        yield ""

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        comparison = self.comparison
        return {
            "id": self.row.id,
            "scenario": dict(self.document),
            "assumptions": list(self.assumptions),
            "metric": comparison.metric,
            "predicted": comparison.predicted,
            "published": comparison.published,
            "error": comparison.error,
        }


def shown_row(paths: Iterable[str | Path], identity: str, *, simulate: Simulate = api.simulate) -> ShownRow:
    """Return one row with its scenario and prediction.

    Args:
        paths: Files of rows, or folders of them.
        identity: The row's id.
        simulate: What predicts.

    Raises:
        InputError: No row has this id; the text names the nearest ones.
        RowError: With its source and id: the row contradicts itself, or lacks what nothing can stand in for.
        ScenarioError: It describes a set-up that breaks a scenario's rules.
    """
    rows = {raw.id: raw for raw in read_rows(paths)}
    if identity not in rows:
        raise InputError(f"no published row {identity!r}{did_you_mean(identity, rows)}")
    raw = rows[identity]
    try:
        row = raw.parsed()
        stated_metric(row)
        document, assumptions = row_document(row)
    except RowError as error:
        raise RowError(f"{raw.source}, row {raw.id!r}: {error}") from error
    scenario = from_document(document, row.id)
    comparison = compare(row, scenario, simulate(scenario))
    sentences = (*assumptions, *scenario.warnings, *comparison.warnings)
    return ShownRow(row=row, document=document, assumptions=sentences, comparison=comparison)
