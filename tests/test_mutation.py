"""The tool of seeded errors makes those it says, and tells which of them a test notices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mutation import known
from mutation.covered import ROOT, Covered
from mutation.mutants import Mutant, mutants_of
from mutation.round import EQUIVALENT, draw, without_false_alarms
from mutation.trial import LIMIT_S, Trial, attempt, judge

if TYPE_CHECKING:
    from pathlib import Path

MODULE = '''\
"""Text, 1 + 2."""
LIMIT = 3


def area(width: int, height: int = 2, *, whole: bool = True) -> int:
    """Return 1 < 2."""
    if width < 0:
        raise ValueError(f"{width - 1} < 0")
    while width > 99:
        width -= 1
    return width * height if whole else min(width, 7)
'''
TESTS = """\
from area import area

def test_product():
    assert area(3, 4) == 12

def test_always_fails():
    assert area(1) == 0
"""
PRODUCT, FAILS = "test_area.py::test_product", "test_area.py::test_always_fails"


def all_mutants() -> dict[tuple[str, str], Mutant]:
    return {(one.old, one.new): one for one in mutants_of(MODULE, "area.py")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "area.py").write_text(MODULE)
    (folder / "test_area.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def covering(*tests: str) -> Covered:
    lines = dict.fromkeys(range(1, 12), frozenset(tests))
    return Covered({"area.py": lines}, dict.fromkeys(tests, 0.01), dict.fromkeys(tests, 1))


def test_errors_are_made_in_code_and_not_in_texts_annotations_and_messages() -> None:
    assert sorted(all_mutants()) == sorted(
        [
            ("2", "3"),
            ("2", "1"),
            ("True", "False"),
            ("width < 0", "(width <= 0)"),
            ("0", "1"),
            ("width > 99", "(width >= 99)"),
            ("99", "100"),
            ("99", "98"),
            ("width -= 1", "width += 1"),
            ("width -= 1", "pass"),
            ("1", "2"),
            ("1", "0"),
            ("width * height", "(width / height)"),
            ("whole", "(not whole)"),
            ("min(width, 7)", "(max(width, 7))"),
            ("7", "8"),
            ("7", "6"),
        ]
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("np.where(a, b, c)", "(np.where(a, c, b))"),
        ("sorted(a)", "(sorted(a, reverse=True))"),
        ("a and b", "(a or b)"),
        ("not a", "(a)"),
        ("a - 1", "(a)"),
        ("-1", "(1)"),
        ("a[0] = b", "pass"),
        ("a.append(b)", "pass"),
        ("a is None", "(a is not None)"),
        ("a // b", "(a % b)"),
        ("np.maximum(a, b)", "(np.minimum(a, b))"),
    ],
)
def test_each_kind_of_error_is_made(old: str, new: str) -> None:
    source = f"def f(a, b, c):\n    {old if ' = ' in old or 'append' in old else f'return [{old}]'}\n"
    mutants = {(one.old, one.new): one for one in mutants_of(source, "f.py")}
    assert mutants[old, new].applied(source) == source.replace(old, new)


def test_every_error_of_the_engines_is_python() -> None:
    for path in (ROOT / "simulator" / "engines").glob("*.py"):
        source = path.read_text()
        for mutant in mutants_of(source, str(path)):
            compile(mutant.applied(source), mutant.key, "exec")


def test_an_error_that_a_test_notices_is_killed_and_another_survives(tree: Path) -> None:
    mutants = all_mutants()
    killed = attempt(mutants["width * height", "(width / height)"], tree, covering(PRODUCT))
    assert (killed.verdict, killed.why) == ("killed", PRODUCT)
    survived = attempt(mutants["7", "8"], tree, covering(PRODUCT))
    assert (survived.verdict, survived.tests) == ("survived", 1)
    assert (tree / "area.py").read_text() == MODULE


def test_a_test_that_fails_anyway_kills_nothing(tree: Path) -> None:
    mutants = all_mutants()
    noticed = Trial(mutants["width * height", "(width / height)"], "killed", PRODUCT)
    unnoticed = attempt(mutants["7", "8"], tree, covering(FAILS))
    assert (unnoticed.verdict, unnoticed.why) == ("killed", FAILS)
    verdicts = [trial.verdict for trial in without_false_alarms([noticed, unnoticed], tree)]
    assert verdicts == ["killed", "survived"]


@pytest.mark.parametrize(
    ("usual_s", "begun_s", "verdict"),
    [(1.0, 5.0, "killed"), (11.0, 5.0, "survived"), (1.0, 50.0, "survived")],
)
def test_a_session_out_of_time_kills_only_where_its_test_hangs(
    tmp_path: Path, usual_s: float, begun_s: float, verdict: str
) -> None:
    log = tmp_path / "log"
    log.write_text(json.dumps({"test": PRODUCT, "begun": True, "at_s": begun_s}) + "\n")
    covered = Covered({}, {PRODUCT: usual_s}, {PRODUCT: 1})
    trial = judge(all_mutants()["7", "8"], covered, None, log, "")
    assert trial.verdict == verdict
    assert trial.cpu_s == LIMIT_S


def test_a_seed_draws_the_same_errors_again_one_a_line_and_only_where_a_test_runs() -> None:
    path = "simulator/engines/loops.py"
    lines = {line: frozenset({PRODUCT}) for line in range(1, 400, 2)}
    covered = Covered({path: lines}, {PRODUCT: 1.0}, {PRODUCT: 1})
    once, again, other = (draw(["engines"], covered, seed, 5) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert all(mutant.path == path for mutant in once + other)
    assert len({mutant.line for mutant in once}) == len(once) > 1


def test_the_quickest_and_most_specific_tests_run_first() -> None:
    lines = {1: frozenset({"slow", "wide", "good"}), 2: frozenset({"elsewhere"})}
    covered = Covered(
        {"a.py": lines}, {"slow": 9.0, "wide": 1.0, "good": 1.0}, {"slow": 10, "wide": 99, "good": 10}
    )
    assert covered.of("a.py", [1]) == ["good", "slow", "wide"]


@pytest.mark.parametrize("name", known.ERRORS)
def test_each_known_error_can_still_be_made(name: str) -> None:
    mutant = known.mutant(name)
    source = (ROOT / mutant.path).read_text()
    compile(mutant.applied(source), name, "exec")
    assert mutant.applied(source) != source


def test_errors_that_count_as_equivalent_can_still_be_made() -> None:
    """Else their reasons say something of a code that is gone."""
    reasons = json.loads(EQUIVALENT.read_text())
    paths = {key.partition("::")[0] for key in reasons}
    keys = {one.key for path in paths for one in mutants_of((ROOT / path).read_text(), path)}
    assert sorted(set(reasons) - keys) == []
    assert all(reasons.values())
