"""How context-parallel ranks see each other's keys and values.

Every scheme is a product of three: ``heads`` ranks exchange heads for positions (all-to-all, DeepSpeed
Ulysses, arXiv:2309.14509), ``ring`` ranks pass keys and values round (ring attention, arXiv:2310.01889), or
``gather`` ranks gather them first (Llama 3, arXiv:2407.21783, section 3.3.2). Transformer Engine's names are
a2a, p2p, all_gather and a2a+p2p (the all-to-all among neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layers.operation import Exchange, Pointwise, Step
from simulator.workload.work import Collective, Elementwise, Group, Transfer

if TYPE_CHECKING:
    from simulator.scenario.parallelism import ContextExchange
    from simulator.workload.layers.local_sizes import LocalSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSplit:
    """How many context-parallel ranks take part in each scheme; their product is ``cp``.

    Attributes:
        heads: Ranks, next to each other, that hold all positions of some heads while attention runs.
        ring: Ranks that pass keys and values round.
        gather: Ranks that gather keys and values.
    """

    heads: int = 1
    ring: int = 1
    gather: int = 1

    @property
    def parts(self) -> int:
        """Parts that the sequence is in while attention runs."""
        return self.ring * self.gather


def context_split(cp: int, comm: ContextExchange, heads: int, *, is_fused: bool) -> ContextSplit:
    """Return how context-parallel ranks share attention.

    Args:
        cp: Context-parallel ranks.
        comm: How they see each other's keys and values.
        heads: Neighbouring ranks that exchange heads in the hierarchical scheme.
        is_fused: Whether attention is one kernel; an unfused one has no softmax to merge, and gathers.
    """
    if comm == "all_to_all":
        return ContextSplit(heads=cp)
    if comm == "all_gather" or not is_fused:
        return ContextSplit(gather=cp)
    heads = heads if comm == "hierarchical" else 1
    return ContextSplit(heads=heads, ring=cp // heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTensors:
    """Bytes of one rank's queries, keys with values, and results before anything is exchanged."""

    query: float
    key_value: float
    result: float


def around_attention(
    sizes: LocalSizes, split: ContextSplit, held: HeldTensors, *, ring_steps: int
) -> tuple[list[Step], list[Step]]:
    """Return the steps before and after the attention core; a core in ring steps exchanges by itself."""
    if split.heads > 1:
        return _exchange_heads(sizes, split, held)
    if split.gather > 1 and ring_steps == 1:
        return _gather(sizes, held.key_value)
    return [], []


def key_value_gather(sizes: LocalSizes, key_value: float) -> Collective:
    """Return the collective that gathers keys and values."""
    size = key_value * sizes.cp.size
    return Collective(kind="all_gather", group=sizes.cp, bytes=size, name="kv_gather")


def _gather(sizes: LocalSizes, key_value: float) -> tuple[list[Step], list[Step]]:
    """Gather keys and values, forward and again backward, and reduce-scatter their gradients.

    Nothing hides it (Megatron-Core transformer_config.py: "cannot be overlapped"; Transformer Engine's
    ``AttnFuncWithCPAndKVAllGather`` keeps each rank's own part only).
    """
    size = key_value * sizes.cp.size
    gather = key_value_gather(sizes, key_value)
    again = Collective(kind="all_gather", group=sizes.cp, bytes=size, name="kv_regather")
    scatter = Collective(kind="reduce_scatter", group=sizes.cp, bytes=size, name="kv_grad_reduce")
    before = Exchange(forward=gather, backward=scatter, stream="cp")
    return [before], [Exchange(forward=None, backward=again, stream="cp")]


def _exchange_heads(
    sizes: LocalSizes, split: ContextSplit, held: HeldTensors
) -> tuple[list[Step], list[Step]]:
    """Exchange heads for positions before the core and positions for heads after it.

    Each tensor is copied into the order of the receivers and, once there, into that of the sequence
    (Transformer Engine's ``flash_attn_a2a_communicate``).
    """
    group = Group(axis="cp", size=split.heads, stride=sizes.cp.stride)

    def exchanged(size: float, name: str) -> list[Step]:
        there = Collective(kind="all_to_all", group=group, bytes=size, name=name)
        back = Collective(kind="all_to_all", group=group, bytes=size, name=f"{name}_grad")
        order = Elementwise(name=f"{name}_order", bytes_moved=2 * size)
        copy = Pointwise(forward=(order,), backward=(order,))
        return [copy, Exchange(forward=there, backward=back, stream="cp"), copy]

    before = exchanged(held.query + held.key_value, "qkv_exchange")
    return before, exchanged(held.result, "attention_exchange")


def ring_message(sizes: LocalSizes, split: ContextSplit, key_value: float) -> Transfer | None:
    """Return the message that passes one part's keys and values on, or None in one part."""
    if split.parts == 1:
        return None
    stride = sizes.cp.stride * split.heads
    return Transfer(bytes=key_value, stride=stride, source=0, target=0, span=stride * (split.parts - 1))
