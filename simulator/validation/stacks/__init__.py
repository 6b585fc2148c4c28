"""What software stacks do where a published row does not say: one YAML file each, never the best fit.

A value comes from the stack's own default settings or from its published recipes; ``source`` says which. A
default that is used is noted among the row's assumptions. A file may be ``like`` another one and name what
differs; recipes and releases are its own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveInt

from simulator.documents import Document, Strict, parse, validate
from simulator.results.flops import Convention  # noqa: TC001  pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Mapping

MemoryQuantity = Literal["allocated", "reserved", "used"]
"""What a source measures as peak memory; see ``compare.published_memory``."""

_UNKNOWN = "unknown"
"""The file of stacks that no other one matches."""


class Run(Protocol):
    """What recipes and releases are told by, of a published row."""

    @property
    def release(self) -> str: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def gpu(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str | None: ...  # noqa: D102
    @property
    def pytorch(self) -> str | None: ...  # noqa: D102


class OlderAttention(Strict):
    """The attention kernel of rows that are older than the one that their stack uses today."""

    kernel: str
    """What they ran."""
    gpu: str = ""
    """Beginning of the names of the accelerators that they are about."""
    named: str = ""
    """Regular expression that their stack or source matches."""


class Runs(Strict):
    """Which runs a recipe is for: regular expressions that match the beginning of a row's fields."""

    stack: str = ""
    model: str = ""
    gpu: str = ""
    precision: str = ""

    def match(self, run: Run) -> bool:
        """Tell whether a row is one of those runs."""
        facts = (
            (self.stack, run.release),
            (self.model, run.model),
            (self.gpu, run.gpu),
            (self.precision, run.precision),
        )
        return all(re.match(pattern, fact or "", re.IGNORECASE) for pattern, fact in facts)


class Recipe(Strict):
    """What a vendor's recipes set for all runs of a kind, where a row is silent."""

    when: Runs
    source: str
    """Where the recipes say it."""
    settings: dict[str, object] = Field(default_factory=dict, alias="set")
    """As ``set:`` of a row: paths and values in the words of scenario files."""
    fuses: frozenset[str] = Field(default=frozenset(), strict=False)
    """What the software fuses beside its default; see ``Software``."""


class Release(Strict):
    """What older releases do otherwise than the stack of today in the catalogue."""

    pytorch: str
    """The last release of PyTorch that they came with: what rows tell of their age."""
    source: str
    """Where the code of these releases says it."""
    lacks: frozenset[str] = Field(default=frozenset(), strict=False)
    """What they do not fuse; see ``Software``."""
    fsdp_in_one_queue: bool = False
    """Whether gradients that FSDP reduce-scatters keep the next layer's kernels waiting."""

    def holds(self, run: Run) -> bool:
        """Tell whether a row ran such a release."""
        return run.pytorch is not None and _version(run.pytorch) <= _version(self.pytorch)


class StackDefaults(Strict):
    """What a training stack does where a row does not say."""

    name: str
    """What assumptions call the stack."""
    source: str
    """Where the defaults were read."""
    matches: str = ""
    """Regular expression that recognises the stack's name in a row."""
    precision: str = "bf16"
    """Number format of the matrix multiplications."""
    recompute: str = "none"
    """Activations recomputed in the backward pass."""
    sharding: str = "zero1"
    """What data-parallel ranks share."""
    sequence_parallel: bool = True
    """Whether norms are divided along the sequence where tp > 1."""
    accumulates: bool = True
    """Whether a step runs micro-batches of one sequence; else one takes the whole batch of its rank."""
    microbatch_tokens: NonNegativeInt = 0
    """Tokens of a micro-batch without a pipeline; 0: as ``accumulates`` says."""
    one_microbatch_per_stage: bool = False
    """Whether a pipeline divides the batch of a replica into as many micro-batches as pipeline ranks."""
    chunks_per_rank: NonNegativeInt = 0
    """Virtual stages of an interleaved schedule; 0: as many as leave one layer in each."""
    interleaves_experts: bool = False
    """Whether pipelines of models with experts run interleaved, one layer per chunk, unless stated."""
    tied: bool = False
    """Whether the output head shares the embedding's weights."""
    positional: str = "rope"
    """How positions are encoded."""
    vocab_size: PositiveInt = 128256
    """Size of the vocabulary."""
    vocab_multiple: NonNegativeInt = 128
    """The vocabulary is padded to a multiple of this times tp; 0: it is not padded."""
    seq_length: PositiveInt = 4096
    """Tokens of one sequence."""
    flops_convention: Convention = "causal"
    """How the stack counts FLOPs in the TFLOP/s and MFU that it prints."""
    low_precision_params: bool = False
    """Whether its fp8 recipes store and gather weights in fp8."""
    attention: OlderAttention | None = None
    """Attention kernel of rows older than the kernel that the stack uses today."""
    p2p_overlap_interleaves: bool = False
    """Whether it overlaps messages between stages in interleaved schedules only."""
    even_with: tuple[NonNegativeInt, NonNegativeInt] = Field(default=(0, 0), strict=False)
    """Modules before and behind the layers that count as layers where these are divided among stages."""
    fills_stages: bool = False
    """Whether layers that do not divide evenly fill all stages but the last, which holds the rest."""
    overlaps_shared_experts: bool = False
    """Whether its recipes run shared experts beside an all-to-all among experts."""
    experts_without_tp: bool = False
    """Whether experts are not divided by tp unless told so."""
    memory: MemoryQuantity = "used"
    """What the stack prints as peak memory."""
    memory_in_gib: bool = False
    """Whether what it calls GB are 2^30 bytes."""
    recipes: list[Recipe] = Field(default_factory=list)
    """Its vendor's recipes; of those that hold for a row, the first counts."""
    releases: list[Release] = Field(default_factory=list)
    """Its older releases."""

    def attention_on(self, gpu: str, text: str) -> str | None:
        """Return the attention kernel of an older row, or None where the stack's own kernel holds.

        Args:
            gpu: Accelerator of the row.
            text: What names its stack and source.
        """
        older = self.attention
        if older is None or not gpu.startswith(older.gpu) or not re.search(older.named, text, re.IGNORECASE):
            return None
        return older.kernel

    def recipe(self, run: Run) -> Recipe:
        """Return what is known of the recipe that a row ran; an empty one where nothing is."""
        return next((recipe for recipe in self.recipes if recipe.when.match(run)), _NO_RECIPE)

    def releases_of(self, run: Run) -> list[Release]:
        """Return the older releases that a row ran."""
        return [release for release in self.releases if release.holds(run)]


_NO_RECIPE = Recipe(when=Runs(), source="no recipe is known")


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))[:2]


def stack_defaults(software: str) -> StackDefaults:
    """Return the defaults of the stack whose pattern matches most of a name; an unknown one has its own.

    >>> [stack_defaults(name).name for name in ("Megatron-LM 2021", "NeMo 25.xx", "Megatron-LM fork 2024")]
    ['megatron-lm-2021', 'nemo', 'megatron-lm']
    >>> stack_defaults("PaLM").name
    'unknown stacks'
    """
    best, length = _stacks()[_UNKNOWN], 0
    for stack in _stacks().values():
        match = re.search(stack.matches, software, re.IGNORECASE) if stack.matches else None
        if match is not None and len(match[0]) > length:
            best, length = stack, len(match[0])
    return best


@lru_cache(maxsize=1)
def _stacks() -> Mapping[str, StackDefaults]:
    """Return the defaults of all stacks by the name of their file."""
    folder = files("simulator.validation") / "stacks"
    documents = {
        file.name.removesuffix(".yaml"): parse(file.read_text("utf-8"), f"stacks/{file.name}")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }
    return {name: validate(_inherited(name, documents), StackDefaults) for name in documents}


def _inherited(name: str, documents: Mapping[str, Document]) -> Document:
    """Return the content of a stack's file, laid over that of the stack that it is like."""
    document = documents[name]
    content = dict(document.data) if isinstance(document.data, dict) else {}
    parent = content.pop("like", None)
    if parent is None:
        return document
    below = _inherited(str(parent), documents).data
    inherited = dict(below) if isinstance(below, dict) else {}
    inherited.pop("recipes", None)
    inherited.pop("releases", None)
    return Document({**inherited, **content}, document.name, document.keys, document.values)
