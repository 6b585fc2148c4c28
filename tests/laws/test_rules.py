"""Rules as data: one row answers a file and a column of a search; the page of rules is written from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simulator
from simulator.documents import Document
from simulator.files.findings import Findings
from simulator.files.overrides import setting_paths
from simulator.files.rules import FACTS, TOPICS, broken, check, settings_of
from simulator.files.rules.rule import FactTable, Rule
from simulator.scenario import Gpu, Model, Software

RULES = [rule for rules in TOPICS.values() for rule in rules]
NAMES = [rule.law for rule in RULES]
COLUMNS = {
    "parallelism.tp", "parallelism.pp", "parallelism.cp", "parallelism.ep", "parallelism.vpp",
    "training.micro_batch_size", "replica", "dp", "stage_ranks", "expert_ranks", "cp_parts", "rank_sequence",
    "replica_batch", "microbatches", "passes", "local_heads",
}  # fmt: skip
"""Facts of which layouts of a search have values of their own."""


def _table(facts: dict[str, Any]) -> FactTable:
    return FactTable(facts, facts.__getitem__, {})


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_the_example_of_a_rule_breaks_it_and_is_told_so(rule: Rule) -> None:
    facts = _table(dict(rule.example))
    assert not rule.asks(facts)
    findings = Findings(Document({}))
    findings.problem(rule.at, rule.message(facts))
    assert findings.problems[0].path == rule.at
    assert "{" not in findings.problems[0].message


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
@given(data=st.data())
def test_a_column_is_answered_as_its_rows_are(rule: Rule, data: st.DataObject) -> None:
    columns = sorted(COLUMNS & set(rule.reads))
    rows = data.draw(st.lists(st.tuples(*[st.integers(1, 64)] * len(columns)), min_size=1, max_size=8))
    fixed = {name: rule.example[name] for name in rule.reads if name not in columns}
    if not columns or rule in TOPICS["context parallelism and loss"]:
        return
    table = np.array(rows, dtype=np.int64).T
    together = rule.asks(_table({**fixed, **dict(zip(columns, table, strict=True))}))
    alone = [rule.asks(_table({**fixed, **dict(zip(columns, row, strict=True))})) for row in rows]
    assert np.broadcast_to(together, len(rows)).tolist() == [bool(answer) for answer in alone]


def test_rules_read_settings_of_files_and_of_models() -> None:
    objects = {"model": Model, "gpu": Gpu, "stack": Software}
    fields = {f"{name}.{field}" for name, kind in objects.items() for field in kind.__dataclass_fields__}
    known = {*setting_paths(), *fields, "schedule", "model"}
    for rule in RULES:
        for path in settings_of(rule):
            assert path in known or path.startswith("model.experts."), (rule.law, path)
        assert rule.at in known


def test_a_rule_is_not_asked_where_one_that_it_needs_is_broken() -> None:
    """Six ranks of a replica do not divide sixteen GPUs: nothing is said of a batch over so many replicas."""
    settings: dict[str, Any] = {
        "parallelism.tp": 2, "parallelism.pp": 3, "parallelism.cp": 1, "cluster.gpus": 16,
        "parallelism.dp": "auto", "training.global_batch_size": 7, "training.micro_batch_size": 2,
    }  # fmt: skip
    facts = FactTable(settings, settings.__getitem__, FACTS)
    rules = [*TOPICS["parallel degrees"][:3], *TOPICS["batch"][:1]]
    assert [rule.law for rule in broken(rules, facts)] == ["tp x pp x cp divides the GPUs"]
    findings = Findings(Document({}))
    check(rules, facts, findings)
    assert [problem.path for problem in findings.problems] == ["cluster.gpus"]


def test_the_page_of_rules_is_fresh() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "simulator.files.rules"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == (Path(simulator.__path__[0]) / "RULES.md").read_text("utf-8")
