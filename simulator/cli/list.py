"""``simulator list``: names in the catalogue, and the rules of scenario files."""

from __future__ import annotations

from typing import Literal

from simulator import catalogue
from simulator.cli.screen import show_json, show_text
from simulator.cli.settings import Json
from simulator.schedules import SCHEDULES

Kind = Literal["gpus", "networks", "models", "software", "schedules", "rules"]


def list_command(
    kind: Kind,
    /,
    *,
    as_json: Json = False,
) -> int:
    """List what the catalogue holds, one name per line, or the rules: what must divide what.

    Args:
        kind: What to list.
        as_json: Print a JSON array.
    """
    if kind == "rules":
        return _list_rules(as_json=as_json)
    names = sorted(SCHEDULES) if kind == "schedules" else catalogue.names(kind)
    show_json(list(names)) if as_json else show_text("\n".join(names))
    return 0


def _list_rules(*, as_json: bool) -> int:
    from simulator.files.rules import TOPICS, settings_of

    rules = [(topic, rule) for topic, of_topic in TOPICS.items() for rule in of_topic]
    if as_json:
        show_json(
            [
                {
                    "topic": topic,
                    "rule": rule.law,
                    "settings": list(settings_of(rule)),
                    "example": rule.message(rule.example),
                }
                for topic, rule in rules
            ]
        )
    else:
        show_text("\n".join(f"{topic}: {rule.law}" for topic, rule in rules))
    return 0
