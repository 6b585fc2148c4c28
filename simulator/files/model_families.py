"""What a Hugging Face ``config.json`` does not say because the model's class does.

Source: the configuration and modelling classes of github:huggingface/transformers, by ``model_type``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.scenario.model import Positional


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Defaults of one ``model_type``."""

    gated: bool = True
    positional: Positional = "rope"
    tied: bool = False
    linear_bias: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    parallel_blocks: bool = False
    shared_experts: int = 0


_FAMILIES = {
    "bloom": Family(gated=False, positional="alibi", tied=True, linear_bias=True),
    "cohere": Family(tied=True, parallel_blocks=True),
    "falcon": Family(gated=False, tied=True, parallel_blocks=True),
    "gemma": Family(tied=True),
    "gemma2": Family(tied=True),
    "gemma3": Family(tied=True, qk_norm=True),
    "gemma3_text": Family(tied=True, qk_norm=True),
    "gpt2": Family(gated=False, positional="learned", tied=True, linear_bias=True),
    "gpt_neox": Family(gated=False, linear_bias=True, parallel_blocks=True),
    "gptj": Family(gated=False, linear_bias=True, parallel_blocks=True),
    "llama4": Family(shared_experts=1),
    "llama4_text": Family(shared_experts=1),
    "mpt": Family(gated=False, positional="alibi", tied=True),
    "nemotron": Family(gated=False),
    "nemotron_h": Family(gated=False, positional="none"),
    "olmo2": Family(qk_norm=True),
    "opt": Family(gated=False, positional="learned", tied=True, linear_bias=True),
    "phi": Family(gated=False, linear_bias=True, parallel_blocks=True),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3": Family(qk_norm=True),
    "qwen3_moe": Family(qk_norm=True),
    "starcoder2": Family(gated=False, tied=True, linear_bias=True),
}


def family(model_type: str) -> Family:
    """Return the defaults of a model type; an unknown one is taken for a Llama.

    >>> family("gpt2").positional
    'learned'
    """
    return _FAMILIES.get(model_type, Family())
