"""Decoder layers in plain PyTorch, forward and backward: what eager execution makes of the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.measure.timer import Timer
    from simulator.scenario import Model

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Module = Any  # torch.nn.Module

LAYERS = 2
"""Layers timed together: the second one finds the caches as a layer in the middle of a model does."""
_SMALL_HIDDEN = 256
_KINDS = {
    "gemm": ("gemm", "nvjet", "cutlass", "xmma", "splitk", "Cijk"),
    "attention": ("flash", "fmha", "sdpa", "attention"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayer:
    """Sizes of an undivided decoder layer: attention with grouped heads and one feed-forward block.

    Attributes:
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the feed-forward block.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of one head.
        gated: Whether the feed-forward block has a gate.
    """

    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    gated: bool

    @classmethod
    def of(cls, model: Model) -> DenseLayer | None:
        """Return the layer of a model, or None where its layers are not all dense with grouped heads."""
        if model.experts is not None or model.latent_attention is not None or model.layer_pattern is not None:
            return None
        return cls(
            hidden_size=model.hidden_size,
            intermediate_size=model.intermediate_size,
            heads=model.num_attention_heads,
            kv_heads=model.num_key_value_heads,
            head_dim=model.head_dim,
            gated=model.gated,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Seconds of one layer.

    Attributes:
        forward_s: Forward pass.
        backward_s: Backward pass, weight gradients included.
        parts: Device seconds of both passes by kind of kernel: ``gemm``, ``attention`` and ``other``; empty
            where the device keeps no record.
        host_s: Host seconds of both passes with products too small to wait for.
        clock_hz: Clock of the multiprocessors meanwhile, where the driver tells it.
        power_w: Power of the device meanwhile, likewise.
    """

    forward_s: float
    backward_s: float
    parts: dict[str, float]
    host_s: float
    clock_hz: float | None
    power_w: float | None


def layer_times(layer: DenseLayer, sequences: int, length: int, dtype: str, timer: Timer) -> LayerTimes:
    """Time one layer on one device, without any parallelism.

    Args:
        layer: Its sizes.
        sequences: Sequences of a micro-batch.
        length: Tokens of a sequence.
        dtype: Number format; all but ``fp16`` run as ``bf16``.
        timer: On what, and how long.
    """
    import torch  # noqa: PLC0415  the user's own

    torch_dtype = torch.float16 if dtype == "fp16" else torch.bfloat16
    layers = _layers(layer).to(device=timer.device, dtype=torch_dtype)
    shape = (sequences, length, layer.hidden_size)
    inputs = torch.randn(*shape, device=timer.device, dtype=torch_dtype, requires_grad=True)

    def forward() -> None:
        with torch.no_grad():
            layers(inputs)

    def both() -> None:
        layers(inputs).backward(inputs.detach())

    forward_s, both_s = timer.seconds(forward), timer.seconds(both)
    clock_hz, power_w = timer.state()
    parts = _parts(timer.kernels_s(both)) if timer.device == "cuda" else {}
    return LayerTimes(
        forward_s=forward_s / LAYERS,
        backward_s=(both_s - forward_s) / LAYERS,
        parts=parts,
        host_s=_host_s(timer, gated=layer.gated),
        clock_hz=clock_hz,
        power_w=power_w,
    )


def _host_s(timer: Timer, *, gated: bool) -> float:
    """Return the host's time of a layer's two passes, measured where the device always is the faster."""
    import torch  # noqa: PLC0415  the user's own

    small = DenseLayer(
        hidden_size=_SMALL_HIDDEN,
        intermediate_size=_SMALL_HIDDEN,
        heads=4,
        kv_heads=4,
        head_dim=_SMALL_HIDDEN // 4,
        gated=gated,
    )
    layers = _layers(small).to(device=timer.device, dtype=torch.bfloat16)
    gradient = torch.randn(1, 64, _SMALL_HIDDEN, device=timer.device, dtype=torch.bfloat16)
    inputs = gradient.clone().requires_grad_()
    return timer.host_s(lambda: layers(inputs).backward(gradient)) / LAYERS


def _parts(seconds: dict[str, float]) -> dict[str, float]:
    """Return the device's seconds by kind of kernel."""
    parts = dict.fromkeys((*_KINDS, "other"), 0.0)
    for name, spent_s in seconds.items():
        kinds = (kind for kind in reversed(_KINDS) if any(word in name for word in _KINDS[kind]))
        parts[next(kinds, "other")] += spent_s / LAYERS
    return parts


def _layers(layer: DenseLayer) -> Module:
    """Return ``LAYERS`` layers of one size."""
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above

    heads, kv_heads = layer.heads, layer.kv_heads
    width, hidden = layer.head_dim, layer.hidden_size
    functional = torch.nn.functional

    class Layer(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in range(2))
            self.query_key_value = nn.Linear(hidden, (heads + 2 * kv_heads) * width, bias=False)
            self.out = nn.Linear(heads * width, hidden, bias=False)
            gates = 2 if layer.gated else 1
            self.up = nn.Linear(hidden, gates * layer.intermediate_size, bias=False)
            self.down = nn.Linear(layer.intermediate_size, hidden, bias=False)

        def forward(self, states: Tensor) -> Tensor:
            states = states + self.out(self._attend(self.norms[0](states)))
            raised = self.up(self.norms[1](states))
            if layer.gated:
                gate, raised = raised.chunk(2, dim=-1)
                raised = functional.silu(gate) * raised
            else:
                raised = functional.gelu(raised)
            return states + self.down(raised)

        def _attend(self, states: Tensor) -> Tensor:
            sequences, length, _ = states.shape
            parts = self.query_key_value(states).split(
                [heads * width, kv_heads * width, kv_heads * width], -1
            )
            query, key, value = (part.view(sequences, length, -1, width).transpose(1, 2) for part in parts)
            found = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=heads != kv_heads
            )
            return found.transpose(1, 2).reshape(sequences, length, heads * width)

    return nn.Sequential(*(Layer() for _ in range(LAYERS)))
