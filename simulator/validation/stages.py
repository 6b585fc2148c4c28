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


def module_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Divide modules evenly: the embedding, each layer, the final norm and the head count one each.

    The first stages take one module more where it does not come out even (aleph-alpha-scaling,
    ``pipe_partition_uniform``).

    >>> module_layers(40, 2), module_layers(40, 4), module_layers(60, 16)[-3:]
    ((21, 19), (10, 11, 11, 8), (4, 4, 1))
    """
    each, rest = divmod(layers + 3, stages)
    modules = [each + (number < rest) for number in range(stages)]
    return (modules[0] - 1, *modules[1:-1], modules[-1] - 2) if stages > 1 else (layers,)


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
