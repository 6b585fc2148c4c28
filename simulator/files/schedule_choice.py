"""What a scenario file may say for ``schedule``: a schedule's name, or a file that holds one."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from simulator.documents import Strict
from simulator.errors import did_you_mean
from simulator.schedules import SCHEDULES

NAMES = tuple(sorted(SCHEDULES))
PYTORCH_NAMES = {schedule.pytorch: name for name, schedule in SCHEDULES.items() if schedule.pytorch}


class CsvSchedule(Strict):
    """A schedule read from a file in the CSV form of PyTorch and torchtitan."""

    csv: str = Field(min_length=1)
    """Path of the file, relative to this one: a line per rank, actions like 0F0, 1B2, 2I0, 2W0."""


def _known(name: str) -> str:
    if name not in SCHEDULES:
        raise ValueError(
            f"no schedule {name!r}{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}, and "
            "{csv: file.csv} reads one"
        )
    return name


def _form(value: object) -> str:
    return "(csv)" if isinstance(value, dict | CsvSchedule) else "(name)"


ScheduleChoice = Annotated[
    Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": list(NAMES)}), Tag("(name)")]
    | Annotated[CsvSchedule, Tag("(csv)")],
    Discriminator(_form),
]
