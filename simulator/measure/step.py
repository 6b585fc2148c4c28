"""Whole training steps on one GPU, as torchtitan runs them: FSDP2 on one rank, bf16 products, fused AdamW."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from simulator.api import simulate
from simulator.errors import InputError
from simulator.measure.decoder import decoder, rotation_angles
from simulator.measure.kernels import BACKENDS
from simulator.measure.layer import DenseLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from simulator.scenario import Scenario

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Module = Any  # torch.nn.Module

_WARM_UPS = 4
_TRAINED_MODEL: Mapping[str, object] = {
    "norm": "rmsnorm",
    "linear_bias": False,
    "qkv_bias": False,
    "qk_norm": False,
    "parallel_blocks": False,
    "residual_dropout": False,
    "tie_word_embeddings": False,
    "sliding_window": None,
    "attention_chunk_size": None,
    "num_nextn_predict_layers": 0,
}
"""What ``decoder`` builds, whatever the sizes are: any other model is refused, not trained as this one."""
_COMPILED = {"torchtitan": False, "torchtitan-compile": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Training steps.

    Attributes:
        step_s: Median seconds of a step.
        peak_bytes: Most memory that was allocated; None on a processor.
        predicted_s: Seconds that the simulator says.
        predicted_bytes: Peak memory that it says, the framework's own included.
    """

    step_s: float
    peak_bytes: int | None
    predicted_s: float
    predicted_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """What a step trains, and how.

    Attributes:
        layer: Sizes of a layer.
        num_layers: Layers of the model.
        vocab_size: Rows of its embedding and of its head.
        micro_batch_size: Sequences of a micro-batch.
        seq_length: Tokens of a sequence.
        num_microbatches: Micro-batches of a step.
        attention: Attention kernel, a key of ``BACKENDS``.
        recompute: Whether whole layers are computed again in the backward pass.
        compiles: Whether PyTorch's compiler fuses the layers.
    """

    layer: DenseLayer
    num_layers: int
    vocab_size: int
    micro_batch_size: int
    seq_length: int
    num_microbatches: int
    attention: str
    recompute: bool
    compiles: bool

    @classmethod
    def of(cls, scenario: Scenario) -> StepSettings:
        """Return what a scenario trains.

        Raises:
            InputError: The scenario is not one that this file can train.
        """
        model, training = scenario.model, scenario.training
        layer = DenseLayer.of(model)
        obstacles = list(_obstacles(scenario, layer))
        if layer is None or obstacles:
            raise InputError(
                f"simulator measure --steps cannot train {scenario.name}: {'; '.join(obstacles)}"
            )
        return cls(
            layer=layer,
            num_layers=model.num_hidden_layers,
            vocab_size=model.vocab_size,
            micro_batch_size=training.micro_batch_size,
            seq_length=training.seq_length,
            num_microbatches=scenario.num_microbatches,
            attention=training.attention,
            recompute=training.recompute == "full",
            compiles=_COMPILED[scenario.software.name],
        )


def measure_step(scenario: Scenario, device: str, steps: int) -> StepTimes:
    """Train a scenario's model for some steps on this machine's device, from random tokens.

    Args:
        scenario: A run of one GPU.
        device: ``cuda`` or ``cpu``.
        steps: Steps that are timed; a few more run before.

    Raises:
        InputError: The scenario is not one that this file can train.
    """
    settings = StepSettings.of(scenario)
    with _process_group(device):
        step = _training(settings, device)
        times = [_timed(step, device) for _ in range(_WARM_UPS + steps)][_WARM_UPS:]
    metrics = simulate(scenario).metrics
    return StepTimes(
        step_s=median(times),
        peak_bytes=_peak_bytes(device),
        predicted_s=metrics["step_time_s"],
        predicted_bytes=metrics["peak_memory_bytes"],
    )


def step_lines(found: StepTimes) -> Iterator[str]:
    """Yield the table for people."""
    yield f"{'':<14}{'measured':>12}{'predicted':>12}{'ratio':>8}"
    ratio = found.predicted_s / found.step_s
    yield f"{'step':<14}{found.step_s * 1e3:>9.1f} ms{found.predicted_s * 1e3:>9.1f} ms{ratio:>8.2f}"
    if found.peak_bytes is not None:
        ratio = found.predicted_bytes / found.peak_bytes
        measured, predicted = found.peak_bytes / 2**30, found.predicted_bytes / 2**30
        yield f"{'peak memory':<14}{measured:>8.1f} GiB{predicted:>8.1f} GiB{ratio:>8.2f}"


def _obstacles(scenario: Scenario, layer: DenseLayer | None) -> Iterator[str]:
    training, software = scenario.training, scenario.software
    if scenario.cluster.gpus != 1:
        yield f"it has {scenario.cluster.gpus} GPUs, and this machine trains on one"
    if layer is None or not layer.gated or scenario.model.positional != "rope":
        yield "its model is not a dense one with gated layers and rotary embedding"
    for name, trained in _TRAINED_MODEL.items():
        value = getattr(scenario.model, name)
        if value != trained:
            yield f"model.{name} is {value}, and the decoder that is trained has {trained}"
    if training.mean_document_length is not None:
        yield "its documents are masked, and attention is trained over whole sequences"
    if software.name not in _COMPILED:
        yield f"its software is {software.name}, not {' or '.join(_COMPILED)}"
    if training.precision != "bf16":
        yield f"its precision is {training.precision}, not bf16"
    if training.attention not in BACKENDS:
        yield f"its attention is {training.attention}, not {' or '.join(BACKENDS)}"
    if training.recompute not in {"none", "full"}:
        yield f"its recompute is {training.recompute}, not none or full"


class _process_group:  # noqa: N801  reads as a statement
    """One rank that talks to nobody: FSDP2 needs a group."""

    def __init__(self, device: str) -> None:
        self._backend = "nccl" if device == "cuda" else "gloo"

    def __enter__(self) -> None:
        import torch.distributed as dist  # noqa: PLC0415  the user's own

        store = dist.HashStore()
        dist.init_process_group(self._backend, store=store, rank=0, world_size=1)

    def __exit__(self, *_: object) -> None:
        import torch.distributed as dist  # noqa: PLC0415  the user's own

        dist.destroy_process_group()


def _training(settings: StepSettings, device: str) -> Callable[[], None]:
    """Return a call that trains one step."""
    import torch  # noqa: PLC0415  the user's own

    compiled = settings.compiles and device == "cuda"
    layer, vocab_size = settings.layer, settings.vocab_size
    whole = decoder(layer, settings.num_layers, vocab_size, recompute=settings.recompute)
    model = _sharded(whole.to(device), compiled)
    loss = torch.compile(_loss) if compiled else _loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    angles = rotation_angles(layer.head_dim, settings.seq_length, device)
    shape = (settings.micro_batch_size, settings.seq_length)

    def step() -> None:
        for _ in range(settings.num_microbatches):
            tokens, targets = (torch.randint(0, vocab_size, shape, device=device) for _ in range(2))
            with _attention(settings.attention, device):
                loss(model(tokens, angles), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _sharded(model: Module, compiled: bool) -> Module:
    """Wrap every layer and the whole, as torchtitan does, with bf16 weights and fp32 gradients."""
    import torch  # noqa: PLC0415  the user's own
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: PLC0415  as above

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in model.layers:
        if compiled:
            layer.compile()
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return model


def _attention(kernel: str, device: str) -> Any:  # noqa: ANN401  a context manager of PyTorch
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415  the user's own

    name = BACKENDS[kernel] if device == "cuda" else "MATH"
    return sdpa_kernel(getattr(SDPBackend, name))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _timed(step: Callable[[], None], device: str) -> float:
    import torch  # noqa: PLC0415  the user's own

    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak_bytes(device: str) -> int | None:
    import torch  # noqa: PLC0415  the user's own

    return torch.cuda.max_memory_allocated() if device == "cuda" else None
