"""One decoder layer in plain PyTorch, forward and backward: what eager execution makes of the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.measure.timer import Timer
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Seconds of one layer.

    Attributes:
        forward_s: Forward pass.
        backward_s: Backward pass, weight gradients included.
    """

    forward_s: float
    backward_s: float


def can_run(scenario: Scenario) -> bool:
    """Tell whether the layer is one that this file writes: dense, and attention with grouped heads."""
    model = scenario.model
    return model.experts is None and model.latent_attention is None and model.layer_pattern is None


def layer_times(scenario: Scenario, timer: Timer) -> LayerTimes:
    """Time one layer of a scenario's model on one device, without any parallelism."""
    import torch  # noqa: PLC0415  the user's own

    layer, inputs = _layer(scenario, timer.device)
    with torch.no_grad():
        forward_s = timer.seconds(lambda: layer(inputs))

    def both() -> None:
        layer(inputs).backward(inputs.detach())

    return LayerTimes(forward_s=forward_s, backward_s=timer.seconds(both) - forward_s)


def _layer(scenario: Scenario, device: str) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above

    model, training = scenario.model, scenario.training
    heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
    width, hidden = model.head_dim, model.hidden_size

    class Layer(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in range(2))
            self.query_key_value = nn.Linear(hidden, (heads + 2 * kv_heads) * width, bias=False)
            self.out = nn.Linear(heads * width, hidden, bias=False)
            gates = 2 if model.gated else 1
            self.up = nn.Linear(hidden, gates * model.intermediate_size, bias=False)
            self.down = nn.Linear(model.intermediate_size, hidden, bias=False)

        def forward(self, states: Any) -> Any:  # noqa: ANN401  torch.Tensor
            states = states + self.out(self._attend(self.norms[0](states)))
            raised = self.up(self.norms[1](states))
            if model.gated:
                gate, raised = raised.chunk(2, dim=-1)
                raised = nn.functional.silu(gate) * raised
            else:
                raised = nn.functional.gelu(raised)
            return states + self.down(raised)

        def _attend(self, states: Any) -> Any:  # noqa: ANN401  torch.Tensor
            sequences, length, _ = states.shape
            parts = self.query_key_value(states).split(
                [heads * width, kv_heads * width, kv_heads * width], -1
            )
            query, key, value = (part.view(sequences, length, -1, width).transpose(1, 2) for part in parts)
            found = nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=heads != kv_heads
            )
            return found.transpose(1, 2).reshape(sequences, length, heads * width)

    dtype = torch.float16 if training.precision == "fp16" else torch.bfloat16
    shape = (training.micro_batch_size, training.seq_length, hidden)
    inputs = torch.randn(*shape, device=device, dtype=dtype, requires_grad=True)
    return Layer().to(device=device, dtype=dtype), inputs
