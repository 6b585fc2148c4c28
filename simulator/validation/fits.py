"""Does it fit? Runs that finished and runs that ran out of memory, as predicted and as they were.

``did_not_fit`` holds, in files of the same names as in ``published``, runs of sweeps that failed for lack of
memory. Each is the published run of the same model with another layout. Only sweeps that report both kinds
are judged: that a published run finished says nothing of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast

from simulator.api import estimate_memory
from simulator.documents import parse
from simulator.errors import SimulatorError
from simulator.validation.kernels import attention_of
from simulator.validation.rows import RawRow, read_rows
from simulator.validation.to_scenario import to_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulator.scenario import Scenario

_DID_NOT_FIT = Path(str(files("simulator.validation") / "did_not_fit"))
_PUBLISHED = Path(str(files("simulator.validation") / "published"))
_DEGREES = ("tp", "pp", "sequence_parallel")
_FIELDS = ("gpus", "seq_len", "micro_batch", "global_batch", "recompute", "kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitsReport:
    """How many runs were judged rightly.

    Attributes:
        finished: Runs that finished.
        finished_right: Those of them that are predicted to fit.
        failed: Runs that ran out of memory.
        failed_right: Those of them that are predicted not to fit.
        wrong: Ids of the runs judged wrongly.
        skipped: Runs that could not be simulated.
    """

    finished: int
    finished_right: int
    failed: int
    failed_right: int
    wrong: tuple[str, ...]
    skipped: int

    @property
    def share_right(self) -> float:
        """Share of all judged runs that are judged rightly."""
        return (self.finished_right + self.failed_right) / max(1, self.finished + self.failed)

    def to_dict(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return {**asdict(self), "wrong": list(self.wrong), "share_right": self.share_right}


def judge_fits(*, stride: int = 1) -> FitsReport:
    """Estimate the memory of every run of the sweeps that report what did not fit, without timing anything.

    Args:
        stride: Judge only every so many runs.
    """
    right = {True: 0, False: 0}
    judged = {True: 0, False: 0}
    wrong, skipped = [], 0
    for raw, finished in list(_runs())[::stride]:
        try:
            scenario, _ = to_scenario(raw.parsed())
            fits = estimate_memory(_shortened(scenario)).fits
        except SimulatorError:
            skipped += 1
            continue
        judged[finished] += 1
        right[finished] += fits is finished
        if fits is not finished:
            wrong.append(raw.id)
    return FitsReport(
        finished=judged[True],
        finished_right=right[True],
        failed=judged[False],
        failed_right=right[False],
        wrong=tuple(wrong),
        skipped=skipped,
    )


def _runs() -> Iterator[tuple[RawRow, bool]]:
    """Yield all runs, and whether they finished."""
    for file in sorted(_DID_NOT_FIT.glob("*.yaml")):
        finished = read_rows([_PUBLISHED / file.name])
        models: dict[str, Mapping[str, object]] = {}
        for raw in finished:
            yield raw, True
            content = cast("Mapping[str, object]", raw.content)
            models.setdefault(str(content["model"]), content)
        failed = cast("list[dict[str, object]]", parse(file.read_text("utf-8"), file.name).data)
        for run in failed:
            yield _failed_row(run, models[str(run["model"])]), False


def _failed_row(run: Mapping[str, object], like: Mapping[str, object]) -> RawRow:
    """Return a failed run as a row: a published one of the same model, with the run's own layout."""
    gpus, tp, pp = (int(str(run[key])) for key in ("gpus", "tp", "pp"))
    parallel = {**cast("Mapping[str, object]", like["parallel"]), **{key: run[key] for key in _DEGREES}}
    identity = f"{run['model']}-did-not-fit-t{run['trial']}"
    content = {
        **like,
        **{key: run[key] for key in _FIELDS},
        "id": identity,
        "attention": attention_of(str(run["kernel"])),
        "parallel": {**parallel, "dp": gpus // (tp * pp)},
    }
    return RawRow(identity, "did_not_fit", content)


def _shortened(scenario: Scenario) -> Scenario:
    """Return a step of no more micro-batches than fill the pipeline twice, which peaks as high."""
    number = min(scenario.num_microbatches, 2 * scenario.parallelism.pp)
    batch = scenario.training.global_batch_size * number // scenario.num_microbatches
    return replace(scenario, training=replace(scenario.training, global_batch_size=batch))
