"""``simulator check``: is the scenario valid, and does it fit?"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from simulator import api, files
from simulator.cli.screen import show, show_json, show_text, warn
from simulator.cli.settings import NO_SETTINGS, Flag, Json, ScenarioPath, Settings
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
        show_json(scenario.document) if as_json else show_text(_yaml(scenario.document))
    elif as_json:
        sizes = derived_sizes(scenario)
        show_json({"name": scenario.name, **sizes, "memory": memory.to_dict(), "warnings": scenario.warnings})
    else:
        show(check_table(scenario, memory))
    return 0 if memory.fits else 1


def _yaml(document: Mapping[str, Any]) -> str:
    """Write plain data as YAML that the strict reader takes back."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    text = io.StringIO()
    yaml.dump(dict(document), text)
    return text.getvalue()
