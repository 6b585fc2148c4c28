"""The whole request: frozen, validated, canonical, hashable by content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from simulator.scenario.noise import QUIET, Noise

if TYPE_CHECKING:
    from simulator.scenario.cluster import Cluster
    from simulator.scenario.model import Model
    from simulator.scenario.parallelism import Parallelism
    from simulator.scenario.search import Search
    from simulator.scenario.software import Software
    from simulator.scenario.sweep import Sweep
    from simulator.scenario.training import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A published result to show beside the prediction.

    Attributes:
        values: Metric name (as in ``Result.metrics``) to measured value.
        source: Citation.
    """

    values: Mapping[str, float]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One training set-up to simulate.

    Attributes:
        name: What reports call it.
        cluster: The hardware.
        model: The model.
        parallelism: How both are divided.
        training: What a step does.
        software: The stack that runs it.
        seed: Seed of every random number.
        noise: What makes GPUs and steps differ, for ``simulator montecarlo``.
        engine: What finds out when everything happens: ``event``, or ``compiled``, which is faster and leaves
            out that transfers share links.
        measured: A published result to compare with, or None.
        sweep: What ``simulator sweep`` varies and draws, or None.
        search: What ``simulator search`` varies and looks for, or None.
        warnings: What the user should know about this request.
        document: The file's content after ``base`` and overrides, for ``--resolved`` and for sweeps.
    """

    name: str
    cluster: Cluster
    model: Model
    parallelism: Parallelism
    training: Training
    software: Software
    seed: int = 0
    noise: Noise = QUIET
    engine: Literal["event", "compiled"] = "event"
    measured: Measured | None = None
    sweep: Sweep | None = field(default=None, compare=False)
    search: Search | None = field(default=None, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    document: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_microbatches(self) -> int:
        """Micro-batches that each data-parallel replica runs in a step."""
        return self.training.global_batch_size // (self.training.micro_batch_size * self.parallelism.dp)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one step of the whole job trains on."""
        return self.training.global_batch_size * self.training.seq_length

    def digest(self) -> str:
        """Return the SHA-256 of everything that can change the result."""
        content = {
            part.name: _plain(getattr(self, part.name)) for part in dataclasses.fields(self) if part.compare
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    """Reduce dataclasses, mappings and sets to what JSON holds, in a canonical order."""
    if dataclasses.is_dataclass(value):
        fields = (part for part in dataclasses.fields(value) if part.compare)
        return {part.name: _plain(getattr(value, part.name)) for part in fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
