"""How the work of layers grows: with sequences in a straight line, with the sizes of a model never downwards.

Held for every kernel, collective and kept tensor of every kind of layer, whatever makes it: a product or a
sum of sizes with one of them on the wrong side falls where it should grow, or bends.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from laws.field_examples import EXAMPLES
from laws.layers import stages_of
from simulator import files
from simulator.errors import SimulatorError
from simulator.workload.work import Attention, Collective, Elementwise, Gemm, HostCopy, Scan, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import Scenario
    from simulator.workload.layers.layer_work import LayerWork
    from simulator.workload.program import Work

    Sizes = dict[str, tuple[str, ...]]

DENSE: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 4096,
    "vocab_size": 32000,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 1024, "num_shared_experts": 1}
LATENT = {
    "q_lora_rank": 256,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}
MAMBA = {"num_heads": 32, "head_dim": 64, "state_size": 128, "n_groups": 8, "chunk_size": 256}
WIDTHS = ("hidden_size", "vocab_size")
DENSE_SIZES = (*WIDTHS, "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")
MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "dense": (DENSE, DENSE_SIZES),
    "tied": ({**DENSE, "tie_word_embeddings": True, "qkv_bias": True}, DENSE_SIZES),
    "experts": ({**DENSE, "experts": EXPERTS}, (*WIDTHS, "experts.moe_intermediate_size", "head_dim")),
    "latent": (
        {**{key: value for key, value in DENSE.items() if key != "head_dim"}, "latent_attention": LATENT},
        (*WIDTHS, *(f"latent_attention.{name}" for name in LATENT)),
    ),
    "mamba": (
        {**DENSE, "layer_pattern": "M*", "mamba": MAMBA},
        ("hidden_size", "mamba.num_heads", "mamba.head_dim", "mamba.state_size", "mamba.n_groups"),
    ),
    "two predictions": ({**DENSE, "num_nextn_predict_layers": 2}, WIDTHS),
}
SETTINGS: dict[str, list[object]] = {
    "software.like": ["megatron-core", "megatron-lm-2021", "torchtitan", "maxtext", "llm-foundry"],
    "model.norm": ["layernorm"],
    "model.gated": [False],
    "model.qk_norm": [True],
    "model.linear_bias": [True],
    "model.parallel_blocks": [True],
    "model.residual_dropout": [True],
    "model.sliding_window": [300],
    "parallelism.tp": [2, 4],
    "parallelism.cp": [2, 4],
    "parallelism.ep": [2],
    "parallelism.cp_comm": ["ring", "all_to_all"],
    "training.precision": ["fp16", "fp8-delayed", "fp8-current", "fp8-rowwise", "fp8-blockwise", "fp8-mx"],
    "training.recompute": ["selective", "full"],
    "training.loss_chunks": [4],
    "training.attention": ["unfused", "flash2"],
}
SELECTIONS = [
    [],
    [],
    ["core_attn"],
    ["layernorm"],
    ["mlp"],
    ["moe"],
    ["moe_act", "layernorm"],
    ["mla_up_proj", "mlp"],
    ["save_attention"],
    ["save_dots"],
]
"""What a layer runs again: nothing, or some modules."""
SWITCHES = {
    path: value
    for path, (_, value) in EXAMPLES.items()
    if path.startswith(("software.", "training.overlap.", "training.offload.")) and path not in SETTINGS
}
"""Every habit of a stack, with the value that changes some result."""
WIDE = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Amount:
    """How much one work is: its FLOPs and its bytes."""

    name: str
    amounts: tuple[float, ...]


def document(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[str, ...]]:
    model, sizes = MODELS[draw(st.sampled_from(sorted(MODELS)))]
    content: dict[str, Any] = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 8, "network": "fat-tree-400g"},
        "model": copy.deepcopy(model),
        "training": {"seq_length": 1024, "global_batch_size": 192},
        "software": {"like": "megatron-core"},
    }
    for path in draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=4, unique=True)):
        put(content, path, draw(st.sampled_from(SETTINGS[path])))
    selection = draw(st.sampled_from(SELECTIONS))
    if selection:
        put(content, "training.recompute", "selective")
        put(content, "training.recompute_modules", list(selection))
    for path in draw(st.lists(st.sampled_from(sorted(SWITCHES)), max_size=4, unique=True)):
        put(content, path, copy.deepcopy(SWITCHES[path]))
    return content, sizes


def put(content: dict[str, Any], path: str, value: object) -> None:
    *above, last = path.split(".")
    for part in above:
        content = content.setdefault(part, {})
    content[last] = value


def changed(content: dict[str, Any], path: str, times: int) -> dict[str, Any]:
    """Return a document with one size so many times as large."""
    larger = copy.deepcopy(content)
    node = larger
    *above, last = path.split(".")
    for part in above:
        node = node[part]
    node[last] *= times
    return larger


def loaded(content: dict[str, Any]) -> Scenario:
    try:
        return files.from_document(content, "layer")
    except SimulatorError:
        assume(False)
        raise


def amounts(scenario: Scenario) -> list[Amount]:
    """Return how much each work of every layer is, and what it keeps and takes."""
    return [amount for stage in stages_of(scenario) for work in stage.works for amount in of_layer(work)]


def of_layer(layer: LayerWork) -> Iterator[Amount]:
    for block in (layer.forward, layer.backward):
        program = block.program
        for index in program.work.tolist():
            yield of_work(program.works[index])
    # What is made again may shrink where more of it is kept: only both together must grow.
    together = layer.saved_bytes + layer.working_bytes
    yield Amount("kept", (layer.saved_bytes, together, layer.offloaded_bytes))


def of_work(work: Work) -> Amount:
    match work:
        case Gemm():
            return Amount(work.name, (work.flops, float(work.batch)))
        case Attention():
            return Amount(work.name, (work.flops,))
        case Scan():
            return Amount(work.name, (work.multiply_adds, work.bytes_moved))
        case Elementwise():
            return Amount(work.name, (work.bytes_moved,))
        case Collective() | Transfer() | HostCopy():
            return Amount(getattr(work, "name", "message"), (work.bytes,))
        case _:
            return Amount(type(work).__name__, ())


def names(works: list[Amount]) -> list[str]:
    return [work.name for work in works]


@WIDE
@given(st.composite(document)())
def test_work_grows_with_sequences_in_a_straight_line_from_what_weights_take(
    drawn: tuple[dict[str, Any], tuple[str, ...]],
) -> None:
    content, _ = drawn
    content["training"]["micro_batch_size"] = 2
    two, four, six = (
        amounts(loaded(changed(content, "training.micro_batch_size", times))) for times in (1, 2, 3)
    )
    assert names(two) == names(four) == names(six)
    for one, other, last in zip(two, four, six, strict=True):
        for least, middle, most in zip(one.amounts, other.amounts, last.amounts, strict=True):
            assert middle - least == pytest.approx(most - middle, rel=1e-6, abs=1e-6 * most), one.name
            assert 0 <= least <= middle <= 2 * least + 1e-6 * least, one.name


@WIDE
@given(st.data())
def test_no_work_shrinks_where_a_size_of_the_model_grows(data: st.DataObject) -> None:
    content, sizes = data.draw(st.composite(document)())
    size = data.draw(st.sampled_from(sizes))
    small, large = amounts(loaded(content)), amounts(loaded(changed(content, f"model.{size}", 2)))
    if size == "num_key_value_heads":  # as many as there are heads need not be repeated for them
        assume("key_value_repeat" not in names(small) or "key_value_repeat" in names(large))
    assert names(small) == names(large)
    for one, other in zip(small, large, strict=True):
        for least, most in zip(one.amounts, other.amounts, strict=True):
            assert least <= most * (1 + 1e-9), f"{one.name} with {size}"
            assert most <= 4 * least * (1 + 1e-9), f"{one.name} with {size}"
