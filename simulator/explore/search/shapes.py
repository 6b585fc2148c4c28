"""Which shapes the rules of scenario files allow, many at once.

The rules are those of ``simulator.files.rules``, asked of columns. They are sound: nothing is excluded that
a scenario file may ask for. What they let through by mistake is found out when it is simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.documents import Document
from simulator.explore.search.space import SHAPE_AXES, Shapes
from simulator.files.findings import Findings
from simulator.files.layers import stage_layers
from simulator.files.rules import batch, degrees, experts, facts_of
from simulator.files.schedule_rules import schedule_name
from simulator.schedules import SCHEDULES, Request
from simulator.schedules.csv_form import CUSTOM

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from simulator.explore.search.axes import Values
    from simulator.explore.search.space import Bools, Ints
    from simulator.files import Variations
    from simulator.files.rules.rule import FactTable, Rule

_NO_STAGES = -1


@dataclass(slots=True)
class _Rows:
    """Combinations of the first few axes that are possible up to now.

    Attributes:
        values: Values of all axes.
        excluded: How many combinations of all axes each rule excludes.
        columns: Index of the value of each axis so far.
        weight: Combinations of all axes that one row stands for.
    """

    values: Values
    excluded: Counter[str]
    columns: dict[str, Ints]
    weight: int

    def cross(self, *axes: str) -> None:
        """Combine every row with every value of further axes."""
        for name in axes:
            count, rows = len(self.values[name]), len(next(iter(self.columns.values()), [0]))
            self.columns = {key: np.repeat(column, count) for key, column in self.columns.items()}
            self.columns[name] = np.tile(np.arange(count), rows)
            self.weight //= count

    def numbers(self, name: str) -> Ints:
        """Return the values of an axis that are numbers."""
        return np.asarray(self.values[name], dtype=np.int64)[self.columns[name]]

    def keep(self, rule: str, possible: Bools) -> None:
        """Keep the rows that a rule allows, and count the others."""
        self.excluded[rule] += int((~possible).sum()) * self.weight
        self.columns = {name: column[possible] for name, column in self.columns.items()}


def possible_shapes(values: Values, variations: Variations, excluded: Counter[str]) -> Shapes:
    """Return the possible shapes of a space.

    Args:
        values: Values of all axes.
        variations: The scenario.
        excluded: Takes up how many combinations of all axes each rule excludes.
    """
    rows = _Rows(values, excluded, {}, math.prod(map(len, values.values())))
    _degrees(rows, variations)
    _experts(rows, variations)
    stages, known = _stages(rows, variations)
    microbatches, schedule, names = _microbatches(rows, variations)
    numbers = {name: rows.numbers(name) for name in ("tp", "pp", "cp", "ep", "vpp", "mbs")}
    return Shapes(
        **numbers,
        dp=_facts(rows, variations)["dp"],
        microbatches=microbatches,
        stages=stages[rows.columns["pp"], rows.columns["vpp"], rows.columns["layers"]],
        schedule=schedule,
        choice=np.stack([rows.columns[name] for name in SHAPE_AXES], axis=1),
        stage_layers=known,
        schedules=names,
    )


_PATHS = {
    "tp": "parallelism.tp",
    "pp": "parallelism.pp",
    "cp": "parallelism.cp",
    "ep": "parallelism.ep",
    "vpp": "parallelism.vpp",
    "mbs": "training.micro_batch_size",
}
"""Setting of each axis that is a number."""


def _keep(rows: _Rows, variations: Variations, label: str, rules: Iterable[Rule]) -> None:
    """Keep the rows that rules of scenario files allow."""
    facts = _facts(rows, variations)
    possible = np.ones(len(next(iter(rows.columns.values()))), dtype=np.bool_)
    for rule in rules:
        possible &= rule.asks(facts)
    rows.keep(label, possible)


def _facts(rows: _Rows, variations: Variations) -> FactTable:
    """Return the settings of all rows, and what follows from them."""
    columns = {path: rows.numbers(axis) for axis, path in _PATHS.items() if axis in rows.columns}
    return facts_of(variations.file, variations.model, columns)


def _degrees(rows: _Rows, variations: Variations) -> None:
    rows.cross("tp")
    _keep(rows, variations, "tp divides heads and widths", degrees.TP_DIVIDES)
    rows.cross("pp", "cp")
    _keep(rows, variations, "tp x pp x cp divides the GPUs", degrees.FILLS_GPUS)
    _keep(rows, variations, "cp divides the sequence", degrees.CP_DIVIDES)


def _experts(rows: _Rows, variations: Variations) -> None:
    rows.cross("ep")
    _keep(rows, variations, "experts divide among ep and tp", (*experts.MESH, *experts.DIVIDES))


def _stages(rows: _Rows, variations: Variations) -> tuple[Ints, tuple[tuple[int, ...], ...]]:
    """Divide layers among stages for every pp and vpp, as a file with these would."""
    values, file = rows.values, variations.file
    rows.cross("vpp", "layers")
    table = np.full([len(values[name]) for name in ("pp", "vpp", "layers")], _NO_STAGES)
    known: dict[tuple[int, ...], int] = {}
    wanted = np.unique(np.stack([rows.columns[name] for name in ("pp", "vpp", "layers")], axis=1), axis=0)
    for at in wanted.tolist():
        pp, vpp, layers = (
            values[name][index] for name, index in zip(("pp", "vpp", "layers"), at, strict=True)
        )
        if vpp != 1 and pp == 1:
            continue
        update = {"pp": pp, "vpp": vpp, "layers": layers}
        section = file.parallelism.model_copy(update=update)
        findings = Findings(Document({}))
        counts = stage_layers(
            file.model_copy(update={"parallelism": section}), variations.model.num_hidden_layers, findings
        )
        if counts and not findings.problems:
            table[tuple(at)] = known.setdefault(counts, len(known))
    found = table[rows.columns["pp"], rows.columns["vpp"], rows.columns["layers"]]
    rows.keep("layers divide among pp x vpp stages", found != _NO_STAGES)
    return table, tuple(known)


def _microbatches(rows: _Rows, variations: Variations) -> tuple[Ints, Ints, tuple[str, ...]]:
    file = variations.file
    rows.cross("schedule")
    names: list[str] = []
    for name, vpp in zip(
        (rows.values["schedule"][index] for index in rows.columns["schedule"].tolist()),
        rows.numbers("vpp").tolist(),
        strict=True,
    ):
        names.append(schedule_name(file.parallelism.model_copy(update={"schedule": name, "vpp": vpp})))
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    rows.columns["name"] = np.asarray([known[name] for name in names], dtype=np.int64)
    takes = [
        name == CUSTOM or SCHEDULES[name].takes_chunks(vpp)
        for name, vpp in zip(names, rows.numbers("vpp").tolist(), strict=True)
    ]
    rows.keep("the schedule runs vpp chunks", np.asarray(takes, dtype=np.bool_))
    rows.cross("mbs")
    _keep(rows, variations, "micro-batches divide the batch", [batch.BATCH_DIVIDES])
    facts = _facts(rows, variations)
    microbatches = facts["microbatches"]
    pp, vpp = rows.numbers("pp"), rows.numbers("vpp")
    group = file.parallelism.microbatch_group_size
    texts = tuple(known)
    quads, inverse = np.unique(
        np.stack([rows.columns["name"], pp, vpp, microbatches], axis=1), axis=0, return_inverse=True
    )
    fits = np.asarray(
        [
            texts[name] == CUSTOM
            or SCHEDULES[texts[name]].fits(Request(pp=p, vpp=v, num_microbatches=m, group_size=group))
            for name, p, v, m in quads.tolist()
        ],
        dtype=np.bool_,
    )
    possible = fits[inverse.reshape(-1)] & batch.FEW_PASSES.asks(facts)
    rows.keep("the schedule runs so many micro-batches", possible)
    return _facts(rows, variations)["microbatches"], rows.columns.pop("name"), texts
