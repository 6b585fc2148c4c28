"""How layers are divided among pipeline stages where a row does not say."""

from __future__ import annotations

import math


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Divide layers among stages by one rule for all rows.

    Evenly where that is possible; else with one layer fewer on the first stage (embedding) and on the
    last (head and loss) where that comes out even, as Llama 3 (arXiv:2407.21783, section 3.3.2) and the
    zero-bubble runs (arXiv:2401.10241, section 5.1) do; else as evenly as possible with the larger stages in
    the middle.

    >>> stage_layers(96, 8), stage_layers(126, 16)[:3], stage_layers(94, 4), stage_layers(61, 8)
    ((12, 12, 12, 12, 12, 12, 12, 12), (7, 8, 8), (23, 24, 24, 23), (7, 8, 8, 8, 8, 8, 7, 7))
    """
    even, rest = divmod(layers, stages)
    if not rest:
        return (even,) * stages
    if (layers + 2) % stages == 0:
        full = (layers + 2) // stages
        return (full - 1, *(full,) * (stages - 2), full - 1)
    before = (stages - rest) // 2
    return (*(even,) * before, *(even + 1,) * rest, *(even,) * (stages - rest - before))


def full_stages(layers: int, stages: int) -> tuple[int, ...]:
    """Divide layers so that all stages but the last are full, or the first one layer short of it.

    >>> full_stages(61, 16)[-2:], full_stages(61, 8), full_stages(61, 32)[:2], full_stages(61, 32)[-2:]
    ((4, 1), (8, 8, 8, 8, 8, 8, 8, 5), (1, 2), (2, 0))
    """
    each = -(-layers // stages)
    short = max(0, each * (stages - 1) - layers)
    if short >= each:
        return stage_layers(layers, stages)
    return (each - short, *(each,) * (stages - 2), max(0, layers - each * (stages - 1)))


def stages_of_modules(layers: int, stages: int, before: int, behind: int) -> tuple[int, ...]:
    """Return the layers of each stage where stages divide all modules evenly, the larger stages first.

    Args:
        layers: Transformer layers.
        stages: Pipeline stages.
        before: Modules before the first layer (embedding).
        behind: Modules behind the last one (final norm, head).

    >>> stages_of_modules(40, 4, 1, 2), stages_of_modules(80, 2, 1, 2)
    ((10, 11, 11, 8), (41, 39))
    """
    even, rest = divmod(layers + before + behind, stages)
    ends = [
        min(max((stage + 1) * even + min(stage + 1, rest) - before, 0), layers) for stage in range(stages)
    ]
    return tuple(end - start for start, end in zip((0, *ends[:-1]), ends, strict=True))


def single_layer_chunks(layers: int, pp: int) -> int:
    """Return how many virtual stages per rank leave about one layer in each, lighter ends included.

    Llama 3 405B runs so: 126 = 8 x 16 - 2 layers.

    >>> single_layer_chunks(126, 16), single_layer_chunks(32, 8), single_layer_chunks(61, 8)
    (8, 4, 7)
    """
    if (layers + 2) % pp == 0 and layers % pp:
        return (layers + 2) // pp
    return max(1, layers // pp)


def redistributed_layers(layers: int, stages: int, head_layers: float) -> tuple[int, ...]:
    """Take layers off the last stage for its vocabulary head, which weighs as much as ``head_layers`` layers.

    Yeung et al. (arXiv:2411.05288, ``final_stage_num_layers``): the last stage holds what comes up to the
    mean, the others share the rest, the later ones the remainder.

    >>> redistributed_layers(32, 8, 6.26), redistributed_layers(32, 8, 1.57)
    ((4, 4, 4, 5, 5, 5, 5, 0), (4, 4, 4, 4, 4, 4, 5, 3))
    """
    last = max(0, math.ceil((layers + head_layers) / stages - head_layers))
    even, rest = divmod(layers - last, stages - 1)
    return (*(even,) * (stages - 1 - rest), *(even + 1,) * rest, last)
