"""Which shapes the rules of scenario files allow, many at once.

The rules are those of ``simulator.files``, as arithmetic on columns. They are sound: nothing is excluded that
a scenario file may ask for. What they let through by mistake is found out when it is simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.documents import Document
from simulator.explore.search.space import SHAPE_AXES, Shapes
from simulator.files.layers import stage_layers
from simulator.files.layout_rules import MAX_PIPELINE_OPS
from simulator.files.report import Findings
from simulator.files.schedule_rules import schedule_name
from simulator.schedules import SCHEDULES, Request
from simulator.schedules.csv_form import CUSTOM

if TYPE_CHECKING:
    from collections import Counter

    from simulator.explore.search.axes import Values
    from simulator.explore.search.space import Bools, Ints
    from simulator.files import Variations

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
    degrees = {name: rows.numbers(name) for name in ("tp", "pp", "cp", "ep", "vpp", "mbs")}
    return Shapes(
        **degrees,
        dp=_dp(rows, variations),
        microbatches=microbatches,
        stages=stages[rows.columns["pp"], rows.columns["vpp"], rows.columns["layers"]],
        schedule=schedule,
        choice=np.stack([rows.columns[name] for name in SHAPE_AXES], axis=1),
        stage_layers=known,
        schedules=names,
    )


def _replica(rows: _Rows) -> Ints:
    return rows.numbers("tp") * rows.numbers("pp") * rows.numbers("cp")


def _dp(rows: _Rows, variations: Variations) -> Ints:
    found: Ints = variations.file.cluster.gpus // _replica(rows)
    return found


def _degrees(rows: _Rows, variations: Variations) -> None:
    file, model = variations.file, variations.model
    rows.cross("tp")
    tp, heads = rows.numbers("tp"), model.num_key_value_heads
    divides = (model.num_attention_heads % tp == 0) & ((heads % tp == 0) | (tp % heads == 0))
    if not all(map(model.is_moe_layer, range(model.num_hidden_layers))):
        divides &= model.intermediate_size % tp == 0
    rows.keep("tp divides heads and widths", divides)
    rows.cross("pp", "cp")
    dp = variations.file.parallelism.dp
    whole = file.cluster.gpus % _replica(rows) == 0
    if isinstance(dp, int):
        whole &= _replica(rows) * dp == file.cluster.gpus
    rows.keep("tp x pp x cp divides the GPUs", whole)
    cp = rows.numbers("cp")
    parts = np.where((cp > 1) & file.parallelism.cp_balance, 2 * cp, cp)
    rows.keep("cp divides the sequence", file.training.seq_length % parts == 0)


def _experts(rows: _Rows, variations: Variations) -> None:
    file, model = variations.file, variations.model
    rows.cross("ep")
    tp, ep = rows.numbers("tp"), rows.numbers("ep")
    etp = tp if file.parallelism.etp is None else np.full_like(tp, file.parallelism.etp)
    fold = _dp(rows, variations) * rows.numbers("cp") * tp % (etp * ep) == 0
    if model.experts is None:
        fold &= ep == 1
    else:
        width = model.experts.moe_intermediate_size
        fold &= (model.experts.num_experts % ep == 0) & (width % etp == 0)
        fold &= model.experts.num_shared_experts * width % tp == 0
    rows.keep("experts divide among ep and tp", fold)


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
    per_step = rows.numbers("mbs") * _dp(rows, variations)
    batch = file.training.global_batch_size
    rows.keep("micro-batches divide the batch", batch % per_step == 0)
    microbatches = batch // (rows.numbers("mbs") * _dp(rows, variations))
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
    fits &= quads[:, 1] * quads[:, 2] * quads[:, 3] <= MAX_PIPELINE_OPS
    rows.keep("the schedule runs so many micro-batches", fits[inverse.reshape(-1)])
    microbatches = batch // (rows.numbers("mbs") * _dp(rows, variations))
    return microbatches, rows.columns.pop("name"), texts
