"""Rows that state how long each stage's passes took: only the schedule and the engine are under test.

The row is simulated with its own measured times of forward passes, input and weight gradients and messages
in the place of priced ones. What happens once per step (reductions, optimizer, overheads) and what a row
has no time of is priced as usual. Messages are not overlapped: the times come from Megatron-LM's pipelines,
where a rank waits for each of its messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.api import step_costs
from simulator.costs.system import System
from simulator.durations.stage_times import stage_times
from simulator.durations.step import step_durations
from simulator.engines import event
from simulator.engines.continuous import continuous
from simulator.engines.durations import Durations
from simulator.errors import SimulatorError
from simulator.schedules import StageTimes
from simulator.validation.timed_part import Timed
from simulator.validation.to_scenario import to_scenario
from simulator.workload.pipeline import Pipeline
from simulator.workload.program import OpKind
from simulator.workload.step.build import build_step
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.scenario import Scenario
    from simulator.validation.rows import RawRow, Row
    from simulator.workload.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRow(Timed):
    """The step of one row, simulated with its own measured times; its source is the name of its file.

    Attributes:
        schedule: Its schedule, and the method that places its vocabulary layers.
    """

    schedule: str


def timed_rows(rows: Iterable[RawRow]) -> tuple[TimedRow, ...]:
    """Simulate the rows that state the times of their stages; rows that cannot be simulated are left out."""
    found = []
    for raw in rows:
        try:
            row = raw.parsed()
            if not _has_times(row):
                continue
            scenario, _ = to_scenario(row)
        except SimulatorError:
            continue  # the row's usual prediction says why
        name = " ".join(filter(None, (scenario.parallelism.schedule, row.method)))
        found.append(
            TimedRow(
                id=raw.id,
                source=raw.source,
                schedule=name,
                predicted_s=_simulated_s(row, scenario),
                measured_s=_step_time_s(row),
            )
        )
    return tuple(found)


def _has_times(row: Row) -> bool:
    has_stages = row.stage_fwd_us is not None and row.stage_bwd_us is not None
    return bool(_step_time_s(row)) and (row.profiled_ms_zb2p is not None or has_stages)


def _step_time_s(row: Row) -> float:
    return row.measured.step_time_s or row.measured.step_time_derived_s or 0.0


def _simulated_s(row: Row, scenario: Scenario) -> float:
    """Return the step time with the row's times."""
    overlap = replace(scenario.training.overlap, p2p=False)
    scenario = replace(scenario, training=replace(scenario.training, overlap=overlap))
    system = System.of(scenario)
    step = build_step(scenario)
    durations = step_durations(step, step_costs(step, scenario), system)
    usual = stage_times(step.program, durations, len(step.stages), scenario.num_microbatches)
    model, training, parallelism = scenario.model, scenario.training, scenario.parallelism
    weight_share = _weight_share(model.hidden_size, model.num_attention_heads, training.seq_length)
    times = _times(row, parallelism.pp, parallelism.vpp, weight_share, usual)
    if Pipeline.of(scenario).uses_times:
        step = build_step(scenario, times)
        durations = step_durations(step, step_costs(step, scenario), system)
    timeline = event.run(step.program, _measured(step.program, durations, times))
    return (continuous(timeline) if scenario.training.post_validation else timeline).makespan_s


def _times(row: Row, pp: int, vpp: int, weight_share: float, usual: StageTimes) -> StageTimes:
    """Return the seconds of each stage; times of a whole rank are divided among its chunks.

    Args:
        row: A row that states times.
        pp: Pipeline ranks.
        vpp: Chunks of each rank.
        weight_share: Share of activations that waits for weight gradients.
        usual: What the simulator finds, for what the row does not state.
    """
    stages = pp * vpp
    if row.profiled_ms_zb2p is not None:
        given = row.profiled_ms_zb2p
        forward, inputs, weights = (
            (milliseconds * 1e-3 / vpp,) * stages for milliseconds in (given.TF, given.TB, given.TW)
        )
        return StageTimes(
            forward=forward,
            backward_input=inputs,
            backward_weight=weights,
            message=given.Tcomm * 1e-3,
            weight_share=weight_share,
        )
    return StageTimes(
        forward=tuple(1e-6 * value for value in row.stage_fwd_us or ()),
        backward_input=tuple(1e-6 * value for value in row.stage_bwd_us or ()),
        backward_weight=(0.0,) * stages,
        message=usual.message,
        output=usual.output,
    )


def _weight_share(hidden: int, heads: int, seq_length: int) -> float:
    """Return the share of activations that waits for weight gradients: 32 h of 34 h + 5 a s bytes per token.

    Qi et al., arXiv:2401.10241, table 1, with unfused attention as in their runs.
    """
    return 32 * hidden / (34 * hidden + 5 * heads * seq_length)


def _measured(program: Program, durations: Durations, times: StageTimes) -> Durations:
    """Put measured times in the place of priced ones."""
    seconds = durations.alone_s()
    backward = np.add(times.backward_input, times.backward_weight)
    for kind, values in (
        (OpKind.FORWARD, times.forward),
        (OpKind.BACKWARD, backward),
        (OpKind.BACKWARD_INPUT, times.backward_input),
        (OpKind.BACKWARD_WEIGHT, times.backward_weight),
    ):
        ops = np.flatnonzero((program.kind == kind) & (program.stage >= 0))
        seconds[ops] = np.asarray(values)[program.stage[ops]]
    if times.message:
        is_message = np.asarray([isinstance(work, Transfer) for work in program.works], dtype=np.bool_)
        seconds[is_message[program.work]] = times.message
    return Durations.of(seconds)
