"""The fast gate: a few dozen published rows must stay predicted about as well as they are."""

from __future__ import annotations

from pathlib import Path

from simulator import validate

ROWS = Path(__file__).parent / "data" / "published_gate.yaml"


def test_published_rows_are_predicted() -> None:
    report = validate([ROWS])
    assert not report.skipped_by_reason
    errors = {row.id: row.comparison.error for row in report.rows if row.comparison is not None}
    assert len(errors) >= 30
    assert sum(map(abs, errors.values())) / len(errors) < 0.045
    assert {name: error for name, error in errors.items() if abs(error) > 0.17} == {}
