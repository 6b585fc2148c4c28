"""Data-parallel sharding: what its words mean, and what follows from them where nothing is said.

One place for files, which fill in a scenario, and for searches, whose bounds count what a file would say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from simulator.scenario.parallelism import Sharding

FSDP: dict[str, Sharding] = dict.fromkeys(("fsdp", "full_shard", "shard_grad_op", "hybrid", "hsdp"), "zero3")
"""What PyTorch's words for fully sharded data parallelism divide: parameters too."""
KEEPS_WEIGHTS = "shard_grad_op"
"""FSDP's word for keeping gathered weights until the backward pass has used them."""
SHARDS_GRADIENTS = frozenset({"zero2", "zero3"})


def sharding_of(word: str) -> Sharding:
    """Return what a word for sharding divides: optimizer state, gradients too, parameters too, or nothing.

    >>> sharding_of("full_shard"), sharding_of("zero1")
    ('zero3', 'zero1')
    """
    return FSDP[word] if word in FSDP else cast("Sharding", word)


def reshards_after_forward(word: str, pp: int, given: bool | None = None) -> bool:
    """Tell whether gathered weights are freed after a forward pass and gathered again.

    Args:
        word: The user's word for sharding.
        pp: Pipeline ranks. A pipeline's stages keep their weights over the step.
        given: What the user says of it, if anything.

    >>> reshards_after_forward("fsdp", 1), reshards_after_forward("fsdp", 4)
    (True, False)
    """
    if given is not None:
        return given
    return word != KEEPS_WEIGHTS and (sharding_of(word) != "zero3" or pp == 1)


def reduces_every_microbatch(word: str, pp: int, given: bool | None = None, *, usual: bool) -> bool:
    """Tell whether gradients are reduced after each micro-batch, rather than once per step.

    Args:
        word: The user's word for sharding.
        pp: Pipeline ranks. A pipeline sums gradients up.
        given: What the user says of it, if anything.
        usual: Whether the stack does so where gradients are sharded and there is no pipeline.
    """
    if given is not None:
        return given
    return sharding_of(word) in SHARDS_GRADIENTS and pp == 1 and usual


def keeps_weights_over_step(pp: int, *, reshards: bool, reduces_every: bool) -> bool:
    """Tell whether weights sharded by zero3 are gathered once, for all micro-batches of a step.

    FSDP frees weights that it keeps over the forward pass after a backward pass that reduces gradients. A
    pipeline runs passes of other micro-batches in between, and PyTorch's stages then switch that off
    (``torch.distributed.pipelining.stage``, ``set_reshard_after_backward``).

    Args:
        pp: Pipeline ranks.
        reshards: Whether weights are freed after a forward pass; see ``reshards_after_forward``.
        reduces_every: Whether gradients are reduced after each micro-batch.
    """
    return not reshards and (pp > 1 or not reduces_every)
