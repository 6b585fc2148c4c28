"""``python -m simulator.files.rules``: the page "what must divide what", written from the rules."""

from __future__ import annotations

import sys

from simulator.files.rules import FACTS, TOPICS
from simulator.schedules import SCHEDULES

_HEAD = """# What must divide what

The rules that `simulator check`, `run` and `search` ask, written from the rules themselves by
`python -m simulator.files.rules > simulator/RULES.md`. A search asks the same rows, of all layouts at once.
"""
_TABLE = "| rule | asked of | what a file that breaks it is told |\n|---|---|---|"
_FACTS = """## What the rules call things

| name | meaning |
|---|---|"""
_SCHEDULES = """
## Schedules

| schedule | chunks per rank (vpp) | micro-batches |
|---|---|---|"""


def page() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD]
    for topic, rules in TOPICS.items():
        lines += [f"## {topic[0].upper()}{topic[1:]}", "", _TABLE]
        lines += [
            f"| {rule.law} | {', '.join(f'`{name}`' for name in rule.reads)} | {rule.message(rule.example)} |"
            for rule in rules
        ]
        lines.append("")
    lines.append(_FACTS)
    lines += [f"| `{fact.name}` | {fact.meaning} |" for fact in FACTS.values()]
    lines.append(_SCHEDULES)
    lines += [
        f"| {name} | {schedule.chunk_rule()} | {schedule.rule or 'any number'} |"
        for name, schedule in sorted(SCHEDULES.items())
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
