"""Slices of TPU pods: the torus inside, the data-centre network between them, systolic arrays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import catalogue, files
from simulator.costs.collectives import collective_cost, transfer_cost
from simulator.costs.gemm import gemm_s
from simulator.costs.kernels import kernel_s
from simulator.costs.slices import across_slices, within_slice
from simulator.scenario import Cluster
from simulator.workload.work import Attention, Collective, CollectiveKind, Gemm, Group, Transfer

KINDS: tuple[CollectiveKind, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def cluster(gpu: str = "tpu-v5e", *, slices: int = 2, chips: int = 256) -> Cluster:
    tpu = catalogue.gpu(gpu)
    return Cluster(
        gpu=tpu,
        gpus=slices * chips,
        gpus_per_node=tpu.gpus_per_node,
        scale_up_domain=chips,
        network=catalogue.network(f"{gpu}-pod"),
    )


def collective(kind: CollectiveKind, size: float, ranks: int, stride: int = 1) -> Collective:
    return Collective(kind=kind, group=Group(axis="dp", size=ranks, stride=stride), bytes=size)


def test_an_all_reduce_over_two_pods_is_the_closed_form() -> None:
    """Scaling book, chapter 5: each chip sends 2 (k - 1) / k of S / n through 3.125 GB/s, half each way."""
    tpu, size = cluster(), 16e9
    cost = collective_cost(collective("all_reduce", size, 512), tpu)
    inside = sum(
        within_slice(collective(kind, size, 256), tpu).alone_s for kind in ("reduce_scatter", "all_gather")
    )
    between_s = size / 256 / (3.125e9 / 2 * 0.9)
    assert cost.uses_network
    assert cost.alone_s == pytest.approx(inside + between_s, rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.floats(1e3, 1e11),
    slices=st.integers(2, 32),
    stride=st.sampled_from([1, 16, 256]),
)
def test_more_slices_and_more_bytes_never_cost_less(
    kind: CollectiveKind, size: float, slices: int, stride: int
) -> None:
    def seconds(count: int, amount: float) -> float:
        tpu = cluster(slices=count)
        return collective_cost(collective(kind, amount, count * 256 // stride, stride), tpu).alone_s

    assert seconds(slices, size) <= seconds(slices, 2 * size)
    if kind != "all_to_all":
        assert seconds(slices, size) <= seconds(slices + 1, size) + 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_one_slice_is_the_torus_alone(kind: CollectiveKind) -> None:
    tpu = cluster(slices=1)
    whole = collective(kind, 1e9, 256)
    assert collective_cost(whole, tpu) == within_slice(whole, tpu)
    assert across_slices(whole, cluster()).alone_s >= within_slice(whole, tpu).alone_s


def test_neighbouring_stages_of_two_slices_meet_over_the_data_centre_network() -> None:
    tpu = cluster(slices=2)
    inside = transfer_cost(Transfer(bytes=1e8, stride=128, source=0, target=1), tpu)
    across = transfer_cost(Transfer(bytes=1e8, stride=128, source=1, target=2), tpu)
    assert not inside.uses_network
    assert across.uses_network
    assert across.alone_s > 10 * inside.alone_s


def scenario(**cluster_keys: object) -> dict[str, object]:
    return {
        "cluster": {"gpu": "tpu-v5e", "gpus": 512, **cluster_keys},
        "model": "llama3-8b",
        "parallelism": {"sharding": "zero1"},
        "training": {"seq_length": 4096, "global_batch_size": 512},
        "software": "maxtext",
    }


def test_slices_are_read_from_a_file() -> None:
    loaded = files.from_document(scenario(num_slices=4))
    assert loaded.cluster.scale_up_domain == 128
    assert loaded.cluster.network.torus == (16, 16)
    assert files.from_document(scenario()).cluster.scale_up_domain == 256


@pytest.mark.parametrize(("gpu", "reached"), [("tpu-v5e", 0.811), ("tpu-v6e", 0.687), ("tpu-v7", 0.829)])
def test_large_products_reach_the_measured_share_of_the_peak(gpu: str, reached: float) -> None:
    tpu = catalogue.gpu(gpu)
    work = Gemm(name="", m=32768, n=32768, k=32768, dtype="bf16")
    assert work.flops / gemm_s(work, tpu) == pytest.approx(reached * tpu.peak_flop_per_s["bf16"], rel=0.03)


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 5000), n=st.integers(1, 5000), k=st.integers(1, 5000))
def test_arrays_are_filled_in_whole_units(m: int, n: int, k: int) -> None:
    tpu = catalogue.gpu("tpu-v6e")
    work = Gemm(name="", m=m, n=n, k=k, dtype="bf16")
    padded = replace(work, k=-(-k // 256) * 256)
    fast = replace(tpu, memory_bytes_per_s=1e30)
    assert gemm_s(work, fast) == pytest.approx(gemm_s(padded, fast))
    assert gemm_s(work, tpu) <= gemm_s(replace(work, m=m + 1, n=n + 1, k=k + 1), tpu)


def test_narrow_heads_take_as_long_as_the_array_is_wide() -> None:
    tpu = catalogue.gpu("tpu-v6e")
    heads = {
        width: Attention(
            sequences=1,
            heads=8,
            kv_heads=8,
            head_dim=width,
            value_dim=width,
            seq_q=8192,
            seq_kv=8192,
            pairs=8192 * 4096,
            kernel="flash2",
            dtype="bf16",
            direction="forward",
        )
        for width in (64, 128, 256)
    }
    seconds = {width: kernel_s(work, tpu) for width, work in heads.items()}
    assert seconds[64] == pytest.approx(seconds[128]) == pytest.approx(seconds[256])
    v5p = catalogue.gpu("tpu-v5p")
    assert kernel_s(heads[256], v5p) == pytest.approx(2 * kernel_s(heads[128], v5p))
