"""The search of a scenario file: its settings must exist, and their values must be valid ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from simulator.documents import validate
from simulator.errors import ScenarioError, did_you_mean
from simulator.files.merge import without
from simulator.files.overrides import apply, unknown_setting
from simulator.files.scenario_file import ScenarioFile
from simulator.files.search_section import SearchSection
from simulator.scenario.search import AXES, NAMES, USUAL, Search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.documents import Document
    from simulator.files.findings import Findings

Free = dict[str, tuple[object, ...] | None]
DP = "parallelism.dp"
"""It follows from the other degrees wherever one of these is free."""
_SECONDS_PER_DAY = 86_400.0
_GPUS = "cluster.gpus"
_NOT_FREE = ("search", "sweep", "measured", "simulation", "name", "base", "schema")


def search(file: ScenarioFile, document: Document, findings: Findings) -> Search | None:
    """Return the search that a file asks for; None where it has no ``search:`` block."""
    return None if file.search is None else _search(file, file.search, document, findings)


def usual_search(file: ScenarioFile, document: Document, findings: Findings) -> Search:
    """Return the search of a file that has no block for it: the usual settings are free."""
    return _search(file, SearchSection(), document, findings)


def _search(file: ScenarioFile, section: SearchSection, document: Document, findings: Findings) -> Search:
    free = _free(section, document, findings)
    _check_target(file, section, free, findings)
    tokens_per_s = section.tokens_per_s
    if section.days is not None and file.training.tokens is not None:
        tokens_per_s = file.training.tokens / (section.days * _SECONDS_PER_DAY)
    return Search(
        free=free,
        rank_by=section.rank_by,
        top=section.top,
        front=section.front,
        tokens_per_s=tokens_per_s,
    )


def _free(section: SearchSection, document: Document, findings: Findings) -> Free:
    given: Mapping[str, object] = dict.fromkeys(USUAL, "auto") if section.free is None else section.free
    plain = without(document, "search", "sweep")
    free: Free = {}
    for key, values in given.items():
        path = NAMES.get(key, key)
        why = unknown_setting(path)
        if path.partition(".")[0] in _NOT_FREE:
            why = f"{path!r} is nothing that a search can choose"
        elif values == "auto" and why is None and path not in AXES.values():
            why = f"{path} has no usual values: list those to choose from"
        if why is not None:
            findings.problem("search.free", why if key in NAMES else f"{why}{did_you_mean(key, NAMES)}")
            continue
        free[path] = None if values == "auto" else _valid(plain, path, values, findings)
    for key in section.fix:
        path = DP if key == "dp" else NAMES.get(key, key)
        why = unknown_setting(path)
        if why is not None:
            findings.problem("search.fix", f"{why}{did_you_mean(key, NAMES)}")
        free.pop(path, None)
    degrees = {"parallelism.tp", "parallelism.pp", "parallelism.cp"}
    if degrees & free.keys() and not {"dp", DP}.intersection(section.fix):
        free[DP] = ("auto",)
    return free


def _valid(document: Document, path: str, values: object, findings: Findings) -> tuple[object, ...]:
    """Return the distinct values of a setting in the schema's own words."""
    found: list[object] = []
    for value in values if isinstance(values, list) else []:
        try:
            file = validate(apply(document, [f"{path}={json.dumps(value)}"]), ScenarioFile)
        except ScenarioError as error:
            # What is wrong with the rest of the file is said once, elsewhere.
            mine = [problem for problem in error.problems if problem.path == path] or error.problems[:1]
            findings.problem("search.free", f"{path}: {json.dumps(value)}: {mine[0].message}")
            continue
        read = setting(file, path, value)
        if read not in found:
            found.append(read)
    return tuple(found)


def setting(file: ScenarioFile, path: str, default: object) -> object:
    """Return a setting of a file by its dotted path; ``default`` where the path uses another spelling."""
    value: object = file
    for part in path.split("."):
        if not hasattr(value, part):
            return default
        value = getattr(value, part)
    return value


def _check_target(file: ScenarioFile, section: SearchSection, free: Free, findings: Findings) -> None:
    if section.days is not None and file.training.tokens is None:
        findings.problem("search.days", "how long is a training run? set training.tokens")
    if section.days is not None and section.tokens_per_s is not None:
        findings.problem("search.days", "give days or tokens_per_s, not both")
    if section.rank_by == "gpus" and section.days is None and section.tokens_per_s is None:
        findings.problem("search.rank_by", "the fewest GPUs for what? set search.days or search.tokens_per_s")
    for key, wanted in (("rank_by", section.rank_by), ("front", section.front)):
        if wanted == "gpus" and _GPUS not in free:
            findings.problem(
                f"search.{key}", f"all layouts have as many GPUs: set search.free, {_GPUS}: [...]"
            )
