"""A decoder as torchtitan writes it: a projection for each tensor, rotary embedding in fp32, fused norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.measure.layer import DenseLayer

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Module = Any  # torch.nn.Module


def decoder(layer: DenseLayer, num_layers: int, vocab_size: int, *, recompute: bool) -> Module:
    """Return a whole model in fp32 that maps tokens and rotation angles to logits.

    Args:
        layer: Sizes of a layer, which has a gate.
        num_layers: How many layers there are.
        vocab_size: Rows of the embedding and of the head.
        recompute: Whether whole layers are computed again in the backward pass.
    """
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above
    from torch.utils.checkpoint import checkpoint  # noqa: PLC0415  as above

    class Decoder(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocab_size, layer.hidden_size)
            self.layers = nn.ModuleList(_layer(layer) for _ in range(num_layers))
            self.norm = nn.RMSNorm(layer.hidden_size)
            self.head = nn.Linear(layer.hidden_size, vocab_size, bias=False)

        def forward(self, tokens: Tensor, angles: Tensor) -> Tensor:
            states = self.embedding(tokens)
            for run in self.layers:
                states = (
                    checkpoint(run, states, angles, use_reentrant=False) if recompute else run(states, angles)
                )
            return self.head(self.norm(states))

    torch.manual_seed(0)
    return Decoder()


def rotation_angles(head_dim: int, length: int, device: str) -> Tensor:
    """Return cosines and sines of every position, ``2 x 1 x length x 1 x head_dim / 2``."""
    import torch  # noqa: PLC0415  the user's own

    rates = torch.pow(10_000.0, -torch.arange(0, head_dim, 2, device=device) / head_dim)
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.stack((angles.cos(), angles.sin()))[:, None, :, None]


def _layer(layer: DenseLayer) -> Module:
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above

    hidden, width = layer.hidden_size, layer.head_dim
    heads, kv_heads = layer.heads, layer.kv_heads
    functional = torch.nn.functional

    def linear(inputs: int, outputs: int) -> Module:
        return nn.Linear(inputs, outputs, bias=False)

    class Layer(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in range(2))
            self.query, self.key, self.value = (
                linear(hidden, count * width) for count in (heads, kv_heads, kv_heads)
            )
            self.out = linear(heads * width, hidden)
            self.gate, self.up = (linear(hidden, layer.intermediate_size) for _ in range(2))
            self.down = linear(layer.intermediate_size, hidden)

        def forward(self, states: Tensor, angles: Tensor) -> Tensor:
            normed = self.norms[0](states)
            query, key, value = (
                part(normed).unflatten(-1, (-1, width)) for part in (self.query, self.key, self.value)
            )
            query, key = (_rotated(part, angles).transpose(1, 2) for part in (query, key))
            found = functional.scaled_dot_product_attention(
                query, key, value.transpose(1, 2), is_causal=True, enable_gqa=heads != kv_heads
            )
            states = states + self.out(found.transpose(1, 2).flatten(2))
            normed = self.norms[1](states)
            return states + self.down(functional.silu(self.gate(normed)) * self.up(normed))

    return Layer()


def _rotated(part: Tensor, angles: Tensor) -> Tensor:
    import torch  # noqa: PLC0415  the user's own

    first, second = part.float().chunk(2, dim=-1)
    cosines, sines = angles
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), -1).type_as(part)
