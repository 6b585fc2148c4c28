"""NCCL's channels, against what its logs say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import SOFTWARE

from simulator import catalogue
from simulator.costs.system import System
from simulator.durations.contention import channels
from simulator.scenario import Cluster
from simulator.workload.work import Collective, Group, Transfer


def system(gpu: str) -> System:
    entry = catalogue.gpu(gpu)
    network = catalogue.network("rail-optimised-400g")
    cluster = Cluster(gpu=entry, gpus=256, gpus_per_node=8, scale_up_domain=8, network=network)
    return System(cluster=cluster, software=replace(SOFTWARE, collective_multiprocessors=24))


@pytest.mark.parametrize(
    ("gpu", "size", "stride", "logged"),
    [
        ("h100-80gb-sxm", 8, 1, 24),  # one node
        ("h100-80gb-sxm", 24, 1, 16),  # github:NVIDIA/nccl issue 1453: three nodes of eight
        ("h100-80gb-sxm", 4, 4, 8),  # issue 1189: two GPUs in each of two nodes
        ("h100-80gb-sxm", 32, 8, 4),  # one GPU per node, "4 compute channels per search channel"
        ("a100-80gb-sxm", 32, 8, 2),
    ],
)
def test_channels_of_a_collective_are_those_of_the_nics_it_enters(
    gpu: str, size: int, stride: int, logged: int
) -> None:
    group = Group(axis="dp", size=size, stride=stride)
    assert channels(Collective(kind="all_gather", group=group, bytes=1e9, name=""), system(gpu)) == logged


def test_a_message_across_the_network_takes_two_channels() -> None:
    near, far = (Transfer(bytes=1e6, stride=stride, source=0, target=0, span=stride) for stride in (1, 8))
    assert [channels(work, system("h100-80gb-sxm")) for work in (near, far)] == [24, 2]
