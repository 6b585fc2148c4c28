"""Rules of scenario files as data, a file for each topic; ``simulator/RULES.md`` lists them for people.

The same row answers a file, ``check``, ``run`` and the columns of a search.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from simulator.files.rules import batch, context, degrees, experts, hardware, sharding
from simulator.files.rules.rule import FactTable, Rule
from simulator.files.schedule_rules import schedule_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from simulator.files.findings import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model

TOPICS = {
    "parallel degrees": degrees.RULES,
    "batch": batch.RULES,
    "experts": experts.RULES,
    "sharding": sharding.RULES,
    "context parallelism and loss": context.RULES,
    "what a GPU can do": hardware.RULES,
}
"""All rules by topic, in the order in which they are asked."""
FACTS = {fact.name: fact for module in (degrees, batch, experts, context, hardware) for fact in module.FACTS}
"""What follows from settings, by name."""


def facts_of(file: ScenarioFile, model: Model | None, columns: Mapping[str, Any] | None = None) -> FactTable:
    """Return the facts of a file, or of many layouts of it.

    Args:
        file: The settings.
        model: Its model; without one, rules that read the model cannot be asked.
        columns: Settings of which each layout of a search has its own value, by path, [layout]; or what else
            rules ask of, such as one ``gpu`` of the cluster.
    """
    given = {"schedule": schedule_name(file.parallelism), "model": model, **(columns or {})}

    def setting(path: str) -> Any:  # noqa: ANN401  a number, a word or a column
        first, *names = path.split(".")
        value: Any = given[first] if first in given else getattr(file, first)
        for name in names:
            value = getattr(value, name) if value is not None else None
        return value

    return FactTable(given, setting, FACTS)


def broken(rules: Iterable[Rule], facts: FactTable) -> Iterator[Rule]:
    """Yield the rules that one scenario breaks; not those that need a broken one to make sense."""
    for rule in rules:
        if all(needed.asks(facts) for needed in _needs(rule)) and not rule.asks(facts):
            yield rule


def check(rules: Iterable[Rule], facts: FactTable, findings: Findings) -> None:
    """Note a problem for each rule that a scenario breaks."""
    for rule in broken(rules, facts):
        findings.problem(rule.at, rule.message(facts))


def reads_model(rule: Rule) -> bool:
    """Tell whether a rule can be asked of a model only."""
    return any(path == "model" or path.startswith("model.") for path in settings_of(rule))


@lru_cache(maxsize=1024)
def settings_of(rule: Rule) -> tuple[str, ...]:
    """Return the settings that a rule depends on, through facts too."""
    return tuple(dict.fromkeys(path for name in rule.reads for path in _settings(name)))


def _settings(name: str) -> Iterator[str]:
    if name not in FACTS:
        yield name
        return
    for read in FACTS[name].reads:
        yield from _settings(read)


@lru_cache(maxsize=1024)
def _needs(rule: Rule) -> tuple[Rule, ...]:
    """Return the rules that must hold for another one to be asked, those of the facts it reads among them."""
    direct = [*rule.needs, *(needed for name in rule.reads for needed in _needs_of_fact(name))]
    above = [inner for needed in direct for inner in _needs(needed)]
    return tuple(dict.fromkeys([*above, *direct]))


def _needs_of_fact(name: str) -> Iterator[Rule]:
    if name in FACTS:
        yield from FACTS[name].needs
        for read in FACTS[name].reads:
            yield from _needs_of_fact(read)


_ALL = tuple(rule for rules in TOPICS.values() if rules is not hardware.RULES for rule in rules)
OF_LAYOUT = tuple(rule for rule in _ALL if not reads_model(rule))
"""Rules that need no model."""
OF_MODEL = tuple(rule for rule in _ALL if reads_model(rule))
"""The others."""
