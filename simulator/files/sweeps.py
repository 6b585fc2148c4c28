"""The sweep and the measured result of a scenario file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.errors import did_you_mean
from simulator.files.overrides import unknown_setting
from simulator.scenario import Measured, PublishedPoint, Sweep

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.sections import MeasuredSection, SweepSection


def measured(section: MeasuredSection | None) -> Measured | None:
    """Return the published result of a file."""
    if section is None:
        return None
    return Measured(values=dict(section.model_extra or {}), source=section.source)


def sweep(section: SweepSection | None, findings: Findings) -> Sweep | None:
    """Return the sweep of a file; its paths must be settings and its axes must be varied."""
    if section is None:
        return None
    for path in section.parameters:
        why = unknown_setting(path)
        if why is not None:
            findings.problem("sweep.parameters", why)
    lengths = {path: len(values) for path, values in section.parameters.items()}
    if section.together and len(set(lengths.values())) > 1:
        found = ", ".join(f"{path} {length}" for path, length in lengths.items())
        findings.problem("sweep.together", f"settings varied together need equally many values, got {found}")
    x = section.x
    if x is None:
        x = next(iter(section.parameters))
        if len(section.parameters) > 1:
            findings.problem(
                "sweep", f"name the horizontal axis: 'x:' is one of {', '.join(section.parameters)}"
            )
    for key, axis in (("x", x), ("series", section.series)):
        if axis is not None and axis not in section.parameters:
            near = did_you_mean(axis, section.parameters)
            findings.problem(f"sweep.{key}", f"{axis!r} is not among the parameters of the sweep{near}")
    return Sweep(
        parameters={path: tuple(values) for path, values in section.parameters.items()},
        together=section.together,
        x=x,
        y=section.y,
        series=section.series,
        published=tuple(
            PublishedPoint(x=point.x, y=point.y, source=point.source, series=point.series)
            for point in section.published
        ),
    )
