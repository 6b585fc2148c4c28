"""What a GPU can do: number formats and attention kernels; asked of each GPU of a cluster."""

from __future__ import annotations

from simulator.errors import did_you_mean
from simulator.files.rules.rule import Fact, Rule
from simulator.scenario.training import number_format

_BLOCK_SCALED = {"fp8-mx", "nvfp4", "fp4"}
_H100 = {"bf16": 989e12, "fp8": 1979e12}

FORMAT = Rule(
    law="the GPU computes in the number format",
    reads=("gpu.peak_flop_per_s", "training.precision"),
    holds=lambda peaks, precision: number_format(precision) in peaks,
    at="training.precision",
    sentence="{gpu.name} does not compute in {training.precision}; it offers {nearest}",
    nearest=lambda peaks, _: ", ".join(peaks),
    example={
        "gpu.name": "a100-80gb-sxm",
        "gpu.peak_flop_per_s": {"bf16": 312e12, "fp16": 312e12},
        "training.precision": "fp8",
    },
)
BLOCK_SCALES = Rule(
    law="the GPU scales blocks of 32 or 16 where the number format does",
    reads=("gpu.peak_flop_per_s", "training.precision"),
    holds=lambda peaks, precision: precision not in _BLOCK_SCALED or "fp4" in peaks,
    at="training.precision",
    sentence="{gpu.name} has no {training.precision} (scales per block); use fp8-delayed or fp8-blockwise",
    example={"gpu.name": "h100-80gb-sxm", "gpu.peak_flop_per_s": _H100, "training.precision": "fp8-mx"},
    needs=(FORMAT,),
)

FACTS = (
    Fact(
        name="has_attention",
        reads=("model.layer_pattern",),
        value=lambda pattern: pattern is None or "*" in pattern,
        meaning="whether some layer of the model has attention",
    ),
)

GIVEN_KERNEL = Rule(
    law="the GPU has the attention kernel that is asked for; unfused attention is made of GEMMs",
    reads=("training.attention", "gpu.attention", "has_attention"),
    holds=lambda kernel, kernels, needed: kernel in {None, "unfused", *kernels} or not needed,
    at="training.attention",
    sentence="no attention kernel '{training.attention}' on {gpu.name}{nearest}",
    nearest=lambda kernel, kernels, _: (
        did_you_mean(kernel, kernels) or f"; it has {', '.join(sorted(kernels))}"
    ),
    example={
        "training.attention": "flash3",
        "gpu.attention": ("cudnn", "flash2"),
        "gpu.name": "tpu-v4",
        "has_attention": True,
    },
)
KERNEL_OF_STACK = Rule(
    law="the GPU has the attention kernel that the stack uses, unless another one is asked for",
    reads=("training.attention", "stack.attention", "gpu.attention", "has_attention"),
    holds=lambda given, kernel, kernels, needed: (
        given is not None or kernel in {"unfused", *kernels} or not needed
    ),
    at="software",
    sentence="no attention kernel '{stack.attention}', which {stack.name} uses, on {gpu.name}; "
    "set training.attention: {nearest} or unfused",
    nearest=lambda _given, _kernel, kernels, _needed: ", ".join(sorted(kernels)),
    example={
        "training.attention": None,
        "stack.attention": "flash3",
        "stack.name": "meta-llama3",
        "gpu.attention": ("cudnn", "flash1", "flash2"),
        "gpu.name": "a100-80gb-sxm",
        "has_attention": True,
    },
)

RULES = (FORMAT, BLOCK_SCALES, GIVEN_KERNEL, KERNEL_OF_STACK)
