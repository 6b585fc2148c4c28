"""Laws of context parallelism: pairs, traffic and balance over every exchange and mask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from factories import MODEL, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import layer, layer_flops, layer_s, sent_bytes
from simulator.costs.collectives import transfer_cost
from simulator.workload.layers.attention_mask import Mask, heaviest_pairs, rank_pairs
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.scenario import Scenario

FAST = settings(max_examples=25, deadline=None)
SEQ = 4096
KV_BYTES = 2 * MODEL.num_key_value_heads * MODEL.head_dim * 2
QUERY_BYTES = MODEL.num_attention_heads * MODEL.head_dim * 2


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    return Mask(
        window=draw(st.none() | st.integers(1, 300)),
        chunk=draw(st.none() | st.integers(1, 300)),
        mean_document=draw(st.none() | st.floats(1, 1e9)),
    )


def exchange(
    cp: int, comm: str, *, tp: int = 1, heads: int = 1, balance: bool = True, seq: int = SEQ
) -> Scenario:
    """Return a scenario with one way to exchange keys and values."""
    scenario = make_scenario(cp=cp, tp=tp, seq_length=seq)
    parallelism = replace(scenario.parallelism, cp_comm=comm, cp_heads=heads, cp_balance=balance)  # type: ignore[arg-type]
    return replace(scenario, parallelism=parallelism)


WAYS = st.sampled_from([("all_gather", 1), ("ring", 1), ("all_to_all", 1), ("hierarchical", 2)])


@FAST
@given(mask=masks(), queries=st.integers(1, 200))
def test_pairs_are_those_that_counting_finds(mask: Mask, queries: int) -> None:
    keep = 1.0 if mask.mean_document is None else 1.0 - 1.0 / mask.mean_document
    counted = sum(
        keep ** (query - key)
        for query in range(queries)
        for key in range(query + 1)
        if query - key < (mask.window or queries)
        and (not mask.chunk or query // mask.chunk == key // mask.chunk)
    )
    assert mask.pairs(queries) == pytest.approx(counted, rel=1e-6)


@FAST
@given(mask=masks(), cp=st.sampled_from([2, 4, 8]), balanced=st.booleans())
def test_ranks_divide_the_pairs(mask: Mask, cp: int, balanced: bool) -> None:
    parts = [rank_pairs(mask, 960, cp, rank, balanced=balanced) for rank in range(cp)]
    assert sum(parts) == pytest.approx(mask.pairs(960))
    assert heaviest_pairs(mask, 960, cp, balanced=balanced) == max(parts)


@FAST
@given(cp=st.sampled_from([2, 4, 8]))
def test_balanced_ranks_have_equal_causal_work_and_contiguous_ones_do_not(cp: int) -> None:
    balanced = {rank_pairs(Mask(), 1024, cp, rank, balanced=True) for rank in range(cp)}
    assert balanced == {Mask().pairs(1024) / cp}
    share = heaviest_pairs(Mask(), 1024, cp, balanced=False) / Mask().pairs(1024)
    assert share == pytest.approx((2 * cp - 1) / cp**2, rel=1e-2)


@FAST
@given(way=WAYS, cp=st.sampled_from([2, 4, 8]), tp=st.sampled_from([1, 2]), window=st.none() | st.just(512))
def test_ranks_divide_the_work_of_a_layer(way: tuple[str, int], cp: int, tp: int, window: int | None) -> None:
    comm, heads = way
    if comm == "all_to_all" and cp * tp > MODEL.num_key_value_heads:
        return
    model = replace(MODEL, sliding_window=window)
    scenario = replace(exchange(cp, comm, tp=tp, heads=heads), model=model)
    whole = layer_flops(replace(make_scenario(seq_length=SEQ), model=model))
    # A window reaches before the first piece of the sequence only on the rank that holds it.
    slack = 1e-9 if window is None else 0.1
    total = cp * tp * layer_flops(scenario)
    assert whole * (1 - 1e-9) <= total <= whole * (1 + slack)


@FAST
@given(cp=st.sampled_from([2, 4, 8]), tp=st.sampled_from([1, 2]))
def test_traffic_of_each_exchange_has_its_closed_form(cp: int, tp: int) -> None:
    tokens = SEQ / cp
    key_value, query = tokens * KV_BYTES / tp, tokens * QUERY_BYTES / tp
    forward, backward = (sent_bytes(block, "cp") for block in layer(exchange(cp, "ring", tp=tp)))
    assert (forward, backward) == pytest.approx(((cp - 1) * key_value, 2 * (cp - 1) * key_value))
    forward, backward = (sent_bytes(block, "cp") for block in layer(exchange(cp, "all_gather", tp=tp)))
    assert (forward, backward) == pytest.approx(((cp - 1) * key_value, 2 * (cp - 1) * key_value))
    if cp * tp <= MODEL.num_key_value_heads:
        ulysses = [sent_bytes(block, "cp") for block in layer(exchange(cp, "all_to_all", tp=tp))]
        assert ulysses == pytest.approx([(cp - 1) / cp * (2 * query + key_value)] * 2)


@FAST
@given(cp=st.sampled_from([2, 4, 8]), comm=st.sampled_from(["ring", "all_gather"]))
def test_contiguous_parts_are_slower(cp: int, comm: str) -> None:
    balanced, contiguous = (layer_s(exchange(cp, comm, balance=flag, seq=16384)) for flag in (True, False))
    assert contiguous > balanced


@FAST
@given(cp=st.sampled_from([2, 4, 8]))
def test_hierarchical_spans_from_ring_to_all_to_all(cp: int) -> None:
    ring, spread = exchange(cp, "ring"), exchange(cp, "hierarchical", heads=1)
    assert layer_s(spread) == layer_s(ring)
    heads, spread = exchange(cp, "all_to_all"), exchange(cp, "hierarchical", heads=cp)
    assert layer_s(spread) == layer_s(heads)


@FAST
@given(cp=st.sampled_from([1, 4]), mean=st.floats(64, 4096))
def test_documents_save_attention_and_nothing_else(cp: int, mean: float) -> None:
    scenario = exchange(cp, "all_gather")
    packed = replace(scenario, training=replace(scenario.training, mean_document_length=mean))
    assert layer_flops(packed) < layer_flops(scenario)
    assert layer_s(packed) < layer_s(scenario)
    assert sent_bytes(layer(packed)[0], "cp") == sent_bytes(layer(scenario)[0], "cp")


def test_a_ring_is_as_slow_as_its_hop_between_nodes() -> None:
    """Four ranks, four apart, lie on two nodes of eight GPUs."""
    cluster = exchange(4, "ring", tp=4).cluster
    inside, across = (
        transfer_cost(Transfer(bytes=1e8, stride=4, source=0, target=0, span=span), cluster)
        for span in (4, 12)
    )
    assert across.uses_network
    assert not inside.uses_network
    assert across.alone_s > inside.alone_s


@FAST
@given(cp=st.sampled_from([2, 4, 8]), balance=st.booleans())
def test_gathering_in_turns_keeps_the_work_and_sends_fp32_gradients(cp: int, balance: bool) -> None:
    """PyTorch gathers once each way; the gradients of cp - 1 parts go round in four bytes each."""
    whole = exchange(cp, "all_gather", balance=balance)
    turns = replace(whole, software=replace(whole.software, cp_gathers_in_turns=True))
    assert layer_flops(turns) == pytest.approx(layer_flops(whole))
    forward, backward = (sent_bytes(block, "cp") for block in layer(turns))
    assert forward == pytest.approx((cp - 1) / cp * SEQ * KV_BYTES)
    assert backward == pytest.approx(3 * (cp - 1) / cp * SEQ * KV_BYTES)
