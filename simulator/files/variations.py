"""One scenario many times over, with other settings each time: the file is read and checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.documents import Document, validate
from simulator.errors import ScenarioError
from simulator.files.build import check_settings, model_of, scenario_of
from simulator.files.clusters import cluster_of, software_of
from simulator.files.findings import Findings
from simulator.files.overrides import apply
from simulator.files.scenario_file import ScenarioFile
from simulator.files.searches import usual_search

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from simulator.scenario import Cluster, Model, Scenario, Search, Software


@dataclass(frozen=True, slots=True, kw_only=True)
class Variations:
    """The settings of one scenario, ready to be changed.

    Attributes:
        file: All settings, checked one by one.
        model: The model, which stays.
        cluster: The hardware, which stays too.
        software: The stack, which stays too.
        name: Name of the scenario.
    """

    file: ScenarioFile
    model: Model
    cluster: Cluster
    software: Software
    name: str

    @classmethod
    def of(cls, scenario: Scenario, overrides: Iterable[str] = ()) -> Variations:
        """Return the settings of a loaded scenario.

        Rules that look at the layout are not checked; it may change.

        Args:
            scenario: A scenario that was loaded from a file or a document.
            overrides: Settings that replace some of it, as in ``load``.

        Raises:
            ScenarioError: All problems of the overrides and of what they make.
        """
        document = apply(Document(dict(scenario.document), scenario.name), overrides)
        file = validate(document, ScenarioFile)
        findings = Findings(document)
        model = model_of(file, findings)
        check_settings(file, model, findings)
        if model is None or findings.problems:
            raise ScenarioError(findings.problems)
        return cls(
            file=file,
            model=model,
            cluster=cluster_of(file.cluster),
            software=software_of(file.software),
            name=scenario.name,
        )

    def usual_search(self) -> Search:
        """Return the search of a scenario that does not say what it looks for."""
        document = Document({}, self.name)
        return usual_search(self.file, document, Findings(document))

    def setting(self, path: str) -> object:
        """Return a setting by its dotted path."""
        value: object = self.file
        for part in path.split("."):
            value = getattr(value, part)
        return value

    def scenario(self, settings: Mapping[str, object], *, checks: bool = True) -> Scenario:
        """Return the scenario with other settings of its layout; without warnings and document.

        Args:
            settings: Dotted path, in ``parallelism`` or ``training``, to a value that is valid by itself, in
                the schema's own words.
            checks: Whether settings must go together, or need only make a scenario.

        Raises:
            ScenarioError: The settings do not go together.
        """
        findings = Findings(Document({}, self.name))
        changed = _changed(self.file, [(path.split("."), value) for path, value in settings.items()])
        found = scenario_of(changed, findings, self.name, self.model, warns=False, checks=checks)
        return replace(found, cluster=self.cluster, software=self.software)


def _changed(section: ScenarioFile, settings: list[tuple[list[str], object]]) -> ScenarioFile:
    """Return a copy of a file with other settings."""
    inner: dict[str, list[tuple[list[str], object]]] = {}
    update: dict[str, object] = {}
    for (first, *rest), value in settings:
        if rest:
            inner.setdefault(first, []).append((rest, value))
        else:
            update[first] = value
    for key, below in inner.items():
        update[key] = _changed(getattr(section, key), below)
    return section.model_copy(update=update)
