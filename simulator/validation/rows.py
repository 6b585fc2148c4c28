"""Published rows: the schema they come in, and how files of them are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from simulator.documents import Limits, read
from simulator.errors import InputError, RowError, ScenarioError
from simulator.validation.row_settings import flat_settings, over_fields
from simulator.validation.stacks import MemoryQuantity  # noqa: TC001  pydantic reads it

_LIMITS = Limits(size_bytes=16 * 2**20, nodes=2_000_000)


class _Part(BaseModel):
    """A part of a row: ``null`` means that the source does not say, unknown keys are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _unstated(cls, content: object) -> object:
        if not isinstance(content, Mapping):
            return content
        return {key: value for key, value in content.items() if value is not None}


class Arch(_Part):
    """The model's shape, in the row schema's short words."""

    layers: PositiveInt | None = None
    hidden: PositiveInt | None = None
    heads: PositiveInt | None = None
    kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    ffn: PositiveInt | None = None
    vocab: PositiveInt | None = None
    gated: bool | None = None
    tied: bool | None = None
    positional: str | None = None
    experts: NonNegativeInt | None = None
    topk: PositiveInt | None = None
    expert_ffn: PositiveInt | None = None
    shared_experts: NonNegativeInt | None = None
    moe_layers: NonNegativeInt | None = None


class Parallel(_Part):
    """Degrees of parallelism; ``fsdp`` is ``full_shard``, ``shard_grad_op`` or ``hybrid``."""

    tp: PositiveInt = 1
    cp: PositiveInt = 1
    pp: PositiveInt = 1
    dp: PositiveInt | None = None
    ep: PositiveInt = 1
    vpp: PositiveInt | None = None
    sequence_parallel: bool | None = None
    zero: NonNegativeInt | None = None
    fsdp: str | None = None


class RowOverlap(_Part):
    """Which communication is said to run beside computation."""

    tp: bool | None = None
    dp: bool | None = None
    pp: bool | None = None


class RowMeasured(_Part):
    """What was measured: seconds, rates, shares of the peak, and peak memory in GiB (2^30) or GB (10^9)."""

    step_time_s: PositiveFloat | None = None
    step_time_derived_s: PositiveFloat | None = None
    tokens_per_s_per_gpu: PositiveFloat | None = None
    samples_per_s_per_gpu: PositiveFloat | None = None
    tflops_per_gpu: PositiveFloat | None = None
    mfu: PositiveFloat | None = None
    peak_memory_gib: PositiveFloat | None = None
    peak_memory_gb: PositiveFloat | None = None


class ProfiledTimes(_Part):
    """Measured milliseconds of a stage's passes for one micro-batch, and of a message."""

    TF: PositiveFloat
    TB: PositiveFloat
    TW: PositiveFloat
    Tcomm: PositiveFloat


class Row(_Part):
    """One published measurement with the configuration that produced it.

    ``settings`` (``set:`` in files) are those of a scenario file, by path; they win over all other fields.
    ``notes`` are for people. ``doubtful`` rows, about which their own source leaves doubt, are reported and
    kept out of headline figures. ``pytorch`` and ``version`` tell releases apart where ``stack`` does not,
    ``inferred`` names fields that the row's author inferred rather than read.
    ``method`` is how the embedding and the head are placed in the pipeline (arXiv:2411.05288), ``kernel`` an
    implementation of attention and norms. The last three are measured times per micro-batch of each stage: of
    all stages, and in microseconds of forward and backward passes by stage. All are extra keys of some
    sources.
    """

    id: str
    gpu: str
    gpus: PositiveInt
    parallel: Parallel
    measured: RowMeasured
    model: str = ""
    stack: str | None = None
    source: str | None = None
    cite: str | None = None
    gpus_per_node: PositiveInt | None = None
    nvlink_domain: PositiveInt | None = None
    network_gbps_per_gpu: PositiveFloat | None = None
    network: str | None = None
    arch: Arch = Field(default_factory=Arch)
    seq_len: PositiveInt | None = None
    schedule: str | None = None
    micro_batch: PositiveInt | None = None
    global_batch: PositiveInt | None = None
    precision: str | None = None
    recompute: str | None = None
    overlap: RowOverlap = Field(default_factory=RowOverlap)
    attention: str | None = None
    flops_convention: str | None = None
    method: str | None = None
    kernel: str | None = None
    zero1_shard_size: int | None = None
    num_slices: PositiveInt | None = None
    profiled_ms_zb2p: ProfiledTimes | None = None
    stage_fwd_us: tuple[PositiveFloat, ...] | None = None
    stage_bwd_us: tuple[PositiveFloat, ...] | None = None
    settings: dict[str, object] = Field(default_factory=dict, alias="set")
    version: str | None = None
    pytorch: str | None = None
    memory_quantity: MemoryQuantity | None = None
    inferred: tuple[str, ...] = ()
    doubtful: bool = False
    notes: str = ""

    @property
    def software(self) -> str:
        """What names the software: ``set:``, the stack, or else the citation."""
        chosen = self.settings.get("software")
        if isinstance(chosen, Mapping):
            chosen = chosen.get("like")
        if chosen is not None:
            return str(chosen)
        return self.source or "" if self.stack in {None, "see notes"} else self.stack or ""

    @property
    def release(self) -> str:
        """The stack with its version."""
        return f"{self.stack or ''} {self.version or ''}".strip()

    @property
    def named(self) -> str:
        """What may name the software's version: the stack and the citation."""
        return f"{self.stack or ''} {self.source or ''}"


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in a file, not yet checked.

    Attributes:
        id: The row's ``id``, or file name and position where it has none.
        source: Name of its file without the suffix: a file holds one source.
        content: What stands in the file.
    """

    id: str
    source: str
    content: object

    @property
    def gpu(self) -> str:
        """The accelerator the row names, or an empty string."""
        return str(self.content.get("gpu") or "") if isinstance(self.content, Mapping) else ""

    def parsed(self) -> Row:
        """Check the row.

        Raises:
            RowError: A field is missing or has the wrong kind; the text names each.
        """
        if not isinstance(self.content, Mapping):
            raise RowError("row is malformed: it is not a mapping of keys to values")
        settings = flat_settings(self.content.get("set"))
        try:
            return Row.model_validate({**over_fields(self.content, settings), "set": settings})
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise RowError("row is malformed: " + "; ".join(faults)) from error


def read_rows(paths: Iterable[str | Path]) -> tuple[RawRow, ...]:
    """Read all rows of files, and of the ``*.yaml`` files directly inside directories.

    Args:
        paths: Files and directories; a file named twice is read once.

    Raises:
        InputError: A path that does not exist, a directory without such files, or a file that is no YAML
            list.
    """
    return tuple(row for file in files_of(paths) for row in _rows(file))


def files_of(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files of rows that paths name: files, and the ``*.yaml`` files directly inside directories.

    Raises:
        InputError: A path that does not exist, or a directory without such files.
    """
    return list(dict.fromkeys(file for path in map(Path, paths) for file in _files(path)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or directory")
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if not files:
        raise InputError(f"{path}: the directory holds no .yaml file")
    return files


def _rows(file: Path) -> list[RawRow]:
    try:
        content = read(file, _LIMITS).data
    except ScenarioError as error:
        raise InputError(f"cannot be read as published rows: {error}") from error
    if not isinstance(content, list):
        raise InputError(f"{file}: a file of published rows is a YAML list, not {type(content).__name__}")
    return [
        _raw(file, position, item) for position, item in enumerate(cast("list[object]", content), start=1)
    ]


def _raw(file: Path, position: int, item: object) -> RawRow:
    name = item.get("id") if isinstance(item, Mapping) else None
    return RawRow(str(name) if name is not None else f"{file.name}#{position}", file.stem, item)
