"""The values that each free setting takes, given or found."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from simulator.scenario.search import AXES

if TYPE_CHECKING:
    from simulator.files import Variations
    from simulator.scenario import Search

Values = dict[str, tuple[object, ...]]

_LEAST_TOKENS = 4096
"""Context-parallel ranks are tried as long as each keeps so many tokens of a sequence: fewer do not fill a
GPU's kernels, and papers divide longer sequences only (arXiv:2407.21783, section 3.3.2)."""
_USUAL: Values = {
    "layers": ("even", "lighter-ends"),
    "schedule": ("1f1b", "interleaved"),
    "sharding": ("none", "zero1", "zero2", "zero3"),
    "sequence_parallel": (True, False),
    "recompute": ("none", "selective", "full"),
    "offload_activations": ("none", "all"),
    "offload_optimizer": ("none", "stream", "cpu"),
    "overlap_tp": (True, False),
    "overlap_grad_reduce": (True, False),
    "overlap_param_gather": (True, False),
    "overlap_p2p": (True, False),
}


def axis_values(search: Search, variations: Variations) -> Values:
    """Return the values of each axis by its short name: one where it is not free.

    What is not given is found: degrees that divide what they must, every micro-batch size that divides the
    batch, and all choices of the other settings.
    """
    values: Values = {}
    for name, path in AXES.items():
        given = search.free.get(path, ()) if path in search.free else (variations.setting(path),)
        values[name] = tuple(given) if given is not None else _found(name, variations)
    return values


def _found(name: str, variations: Variations) -> tuple[object, ...]:
    file, model = variations.file, variations.model
    gpus, layers = file.cluster.gpus, model.num_hidden_layers
    if name in _USUAL:
        return _USUAL[name]
    if name == "placement":
        return tuple(list(order) for order in itertools.permutations(file.parallelism.placement))
    longest = max(1, file.training.seq_length // _LEAST_TOKENS)
    numbers = {
        "tp": [n for n in divisors(gpus) if model.num_attention_heads % n == 0],
        "pp": [n for n in divisors(gpus) if n <= layers + 2],
        # Stages may be lighter at both ends: layers, or layers + 2, are divided (files.layers).
        "vpp": sorted({*divisors(layers), *divisors(layers + 2)}),
        "cp": [n for n in divisors(gpus) if n <= longest],
        "ep": [1] if model.experts is None else divisors(model.experts.num_experts),
        "mbs": divisors(file.training.global_batch_size),
    }
    return tuple(numbers[name])


def divisors(number: int) -> list[int]:
    """Return the divisors of a number in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    below = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return below + [number // n for n in reversed(below) if n * n != number]
