"""The fitted files: constants with their uncertainty, and those fitted without the runs of each source."""

from __future__ import annotations

from json import dumps
from math import expm1
from typing import TYPE_CHECKING

from simulator.calibration.training.constants import CLOCK, FORMATS, Constant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulator.calibration.training.fit import TrainingFit

COMMAND = "simulator calibrate training"
_NOTHING = 1e-9
_WHERE = "published runs and measured layers (simulator/validation)"


def constants_text(found: TrainingFit) -> str:
    """Write ``fitted/training.yaml``, the same bytes for the same numbers."""
    lines = [f"# Written by `{COMMAND}`; do not edit."]
    for section, per in (("gpus", "gpu"), ("stacks", "stack")):
        lines.append(f"{section}:")
        mine = [constant for constant in _felt(found) if constant.quantity.per == per]
        for owner in sorted({constant.owner for constant in mine}):
            lines.append(f"  {owner}:")
            lines += [
                f"    {key}: {_leaf(found, constant)}"
                for constant in mine
                if constant.owner == owner
                for key in _keys(constant)
            ]
    lines.append("typical:")
    for group in found.model.typical:
        members = [constant for constant in found.model.constants if constant.group == group]
        member, owners = members[0], len(members)
        if member.quantity.where_stated:
            continue
        shared = f"what {owners} {member.quantity.per}s share" if owners > 1 else f"one {member.quantity.per}"
        source = f"{shared} in {_WHERE}; rerun: {COMMAND}"
        value = f"{found.model.typical_value(member):.3g}"
        lines += [f'  {key}: {{value: {value}, kind: fitted, source: "{source}"}}' for key in _keys(member)]
    return "\n".join(lines) + "\n"


def without_text(found: TrainingFit) -> str:
    """Write ``fitted/leave_one_out.yaml``: by source, the constants as fitted without its runs."""
    lines = [
        f"# Written by `{COMMAND}`; do not edit.",
        "# What the fit says of a source's GPUs and stacks when it has not seen the runs of that source.",
    ]
    for source, values in found.without.items():
        lines.append(f"{dumps(source)}:")
        lines += list(_plain(values, "gpus", "gpu"))
        lines += list(_plain(values, "stacks", "stack"))
    return "\n".join(lines) + "\n"


def table_text(found: TrainingFit) -> str:
    """Write one line for each constant."""
    lines = [f"{'constant':<32}{'of':<26}{'value':>10}{'+-':>8}{'runs':>6}{'error':>8}"]
    lines += [
        f"{constant.group:<32}{constant.owner:<26}{found.model.value(constant):>10.3g}"
        f"{_share(found, constant):>8.0%}{found.runs[constant]:>6}{found.errors[constant]:>8.1%}"
        for constant in found.model.constants
    ]
    return "\n".join(lines) + "\n"


def _felt(found: TrainingFit) -> list[Constant]:
    """Return the constants that some run depends on: of the others the catalogue's own number holds.

    Where the host is no limit in any run of a stack, its launch time leaves no trace.
    """
    return [constant for constant in found.model.constants if abs(found.model.own[constant]) > _NOTHING]


def _keys(constant: Constant) -> tuple[str, ...]:
    return FORMATS[constant.family] if constant.quantity == CLOCK else (constant.quantity.field,)


def _leaf(found: TrainingFit, constant: Constant) -> str:
    value = found.model.value(constant)
    uncertainty = value * _share(found, constant)
    source = (
        f"{found.runs[constant]} {_WHERE}, mean error {found.errors[constant]:.1%}, with what all "
        f"{constant.quantity.per}s share as the prior; rerun: {COMMAND}"
    )
    return f'{{value: {value:.3g}, uncertainty: {uncertainty:.2g}, kind: fitted, source: "{source}"}}'


def _share(found: TrainingFit, constant: Constant) -> float:
    return expm1(min(found.uncertainty[constant], 1.0))


def _plain(values: Mapping[Constant, float], section: str, per: str) -> Iterator[str]:
    mine = [constant for constant in values if constant.quantity.per == per]
    yield f"  {section}:"
    for owner in dict.fromkeys(constant.owner for constant in mine):
        numbers = [
            f"{key}: {values[constant]:.3g}"
            for constant in mine
            if constant.owner == owner
            for key in _keys(constant)
        ]
        yield f"    {owner}: {{{', '.join(numbers)}}}"
