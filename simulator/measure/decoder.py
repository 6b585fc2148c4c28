"""A decoder as torchtitan writes it: a projection for each tensor, rotary embedding in fp32, fused norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.scenario import Model

    Tensor = Any  # torch.Tensor; PyTorch is the user's own and imported late
    Module = Any  # torch.nn.Module


def decoder(model: Model, *, recompute: bool) -> Module:
    """Return a whole model in fp32 that maps tokens and rotation angles to logits.

    Args:
        model: Its sizes.
        recompute: Whether whole layers are computed again in the backward pass.
    """
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above
    from torch.utils.checkpoint import checkpoint  # noqa: PLC0415  as above

    class Decoder(nn.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(model.vocab_size, model.hidden_size)
            self.layers = nn.ModuleList(_layer(model) for _ in range(model.num_hidden_layers))
            self.norm = nn.RMSNorm(model.hidden_size)
            self.head = nn.Linear(model.hidden_size, model.vocab_size, bias=False)

        def forward(self, tokens: Tensor, angles: Tensor) -> Tensor:
            states = self.embedding(tokens)
            for layer in self.layers:
                states = (
                    checkpoint(layer, states, angles, use_reentrant=False)
                    if recompute
                    else layer(states, angles)
                )
            return self.head(self.norm(states))

    torch.manual_seed(0)
    return Decoder()


def rotation_angles(model: Model, length: int, device: str) -> Tensor:
    """Return cosines and sines of every position, ``2 x 1 x length x 1 x head_dim / 2``."""
    import torch  # noqa: PLC0415  the user's own

    width = model.head_dim
    rates = torch.pow(10_000.0, -torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.stack((angles.cos(), angles.sin()))[:, None, :, None]


def _layer(model: Model) -> Module:
    import torch  # noqa: PLC0415  the user's own
    from torch import nn  # noqa: PLC0415  as above

    hidden, width = model.hidden_size, model.head_dim
    heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
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
            self.gate, self.up = (linear(hidden, model.intermediate_size) for _ in range(2))
            self.down = linear(model.intermediate_size, hidden)

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
