"""A whole scenario file for tests that change one key of it."""

from __future__ import annotations

import copy

from simulator.documents import parse

TEXT = """
name: test
cluster:
  gpu: h100-80gb-sxm
  gpus: 256
  network: {type: fat-tree, bandwidth_per_gpu: 400 Gb/s, latency: 5 us}
  price_per_gpu_hour: 2.50 $/h
model: llama3-70b
parallelism: {tp: 4, pp: 4, vpp: 2, cp: 2, sharding: zero1, placement: [tp, cp, dp, pp]}
training:
  seq_length: 8192
  global_batch_size: 256
  tokens: 15T
  overlap: {tp: true}
sweep: {parameters: {cluster.gpus: [256, 512]}, published: [{x: 256, y: 430, source: nobody}]}
measured: {tflops_per_gpu: 400, source: nobody}
"""


def content() -> dict[str, object]:
    data = parse(TEXT).data
    assert isinstance(data, dict)
    return copy.deepcopy(data)


def put(data: dict[str, object], path: str, value: object) -> dict[str, object]:
    inner: object = data
    *parents, last = path.split(".")
    for part in parents:
        assert isinstance(inner, dict)
        if not isinstance(inner.get(part), dict):
            inner[part] = {}
        inner = inner[part]
    assert isinstance(inner, dict)
    inner[last] = value
    return data
