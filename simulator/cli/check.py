"""``simulator check``: is the scenario valid, and does it fit?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from simulator import api, files
from simulator.cli.screen import show, show_json, show_text, warn
from simulator.cli.settings import NO_SETTINGS, Flag, Json, ScenarioPath, Settings
from simulator.documents import plain_scalar
from simulator.reports.check_table import check_table
from simulator.reports.derived import derived_sizes


def check_command(
    file: ScenarioPath,
    /,
    *,
    settings: Settings = NO_SETTINGS,
    resolved: Flag = False,
    as_json: Json = False,
) -> int:
    """Validate a scenario without timing it: derived sizes and memory. Exit code 1: it does not fit.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file.
        resolved: Print the file with its base and the settings of the command line merged in, as YAML.
        as_json: Print JSON instead of text.
    """
    scenario = files.load(file, overrides=settings.overrides())
    memory = api.estimate_memory(scenario)
    warn(scenario.warnings)
    if resolved:
        show_json(scenario.document) if as_json else show_text(yaml_text(scenario.document))
    elif as_json:
        sizes = derived_sizes(scenario)
        show_json({"name": scenario.name, **sizes, "memory": memory.to_dict(), "warnings": scenario.warnings})
    else:
        show(check_table(scenario, memory))
    return 0 if memory.fits else 1


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML is untyped
    """Quotes what the strict reader would not take for text: PyYAML itself knows YAML 1.1 only."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: tuple[bool, bool]) -> str:  # noqa: ANN401
        """Return the tag that a plain scalar has for the reader."""
        if kind is yaml.ScalarNode and implicit[0]:
            return str(self.represent_data(plain_scalar(value)).tag)
        return str(super().resolve(kind, value, implicit))

    def ignore_aliases(self, data: object) -> bool:
        """Write equal parts out in full."""
        del data
        return True


def yaml_text(document: Mapping[str, Any]) -> str:
    """Write plain data as YAML that the strict reader takes back."""
    return str(yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))
