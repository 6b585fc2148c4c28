"""Options that change settings of a scenario, shared by several verbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

_PATHS = {
    "tp": "parallelism.tp",
    "pp": "parallelism.pp",
    "vpp": "parallelism.vpp",
    "cp": "parallelism.cp",
    "ep": "parallelism.ep",
    "dp": "parallelism.dp",
    "mbs": "training.micro_batch_size",
    "gbs": "training.global_batch_size",
    "seq": "training.seq_length",
    "gpus": "cluster.gpus",
    "gpu": "cluster.gpu",
    "engine": "simulation.engine",
}


def _is_no_option(_kind: object, value: object) -> None:
    """Refuse an option in the place of a file; a lone hyphen is standard input or output."""
    if str(value).startswith("-") and str(value) != "-":
        raise ValueError(f"{value} is no option, and no name of a file")


ScenarioPath = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_is_no_option)]


OutputPath = Annotated[Path, Parameter(allow_leading_hyphen=True, validator=_is_no_option)]
Json = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings given on the command line.

    Attributes:
        set: Any setting by its dotted path, for example parallelism.pp=8; may be repeated.
        tp: Tensor-parallel ranks.
        pp: Pipeline-parallel ranks.
        vpp: Model chunks per pipeline rank.
        cp: Context-parallel ranks.
        ep: Expert-parallel ranks.
        dp: Data-parallel replicas, or auto.
        mbs: Micro-batch size in sequences.
        gbs: Global batch size in sequences.
        seq: Sequence length in tokens.
        gpus: Number of GPUs of the job.
        gpu: GPU by its catalogue name.
    """

    set: Annotated[list[str], Parameter(negative=(), show_default=False)] = field(default_factory=list)
    tp: int | None = None
    pp: int | None = None
    vpp: int | None = None
    cp: int | None = None
    ep: int | None = None
    dp: str | None = None
    mbs: int | None = None
    gbs: int | None = None
    seq: int | None = None
    gpus: int | None = None
    gpu: str | None = None

    def overrides(self) -> list[str]:
        """Return ``path=value`` texts: what ``--set`` says first, then the shortcuts.

        >>> Settings(set=["training.recompute=full"], tp=4).overrides()
        ['training.recompute=full', 'parallelism.tp=4']
        """
        shortcuts = ((path, getattr(self, name, None)) for name, path in _PATHS.items())
        return [*self.set, *(f"{path}={value}" for path, value in shortcuts if value is not None)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TimedSettings(Settings):
    """Settings of verbs that let the user choose what times a step.

    Attributes:
        engine: event, or compiled: faster, but without transfers that share links.
    """

    engine: Literal["event", "compiled"] | None = None


NO_SETTINGS = Settings()
NO_TIMED_SETTINGS = TimedSettings()
