"""Bytes of fused kernels, counted again from the tensors that their published sources read and write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from factories import MODEL, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import head, layer, ops
from simulator.scenario import Experts, Overlap
from simulator.workload.layers.elementwise import norm
from simulator.workload.layers.experts.products import _bias, _fused_activation
from simulator.workload.layers.mamba import StateSpaceScan
from simulator.workload.layers.operation import Pointwise
from simulator.workload.layers.ring_attention import ring_kernels
from simulator.workload.layers.settings import layer_settings
from simulator.workload.work import Attention, Collective, Elementwise, Scan

if TYPE_CHECKING:
    from simulator.workload.work import Pass

FAST = settings(max_examples=30, deadline=None)
FORWARD_SCAN = {
    "chunk_cumsum": "dt dt dt",
    "chunk_state": "x B states",
    "state_passing": "states states",
    "chunk_bmm": "B C CB",
    "chunk_scan": "x out C states CB",
}
BACKWARD_SCAN = {
    **{name: tensors for name, tensors in FORWARD_SCAN.items() if name != "chunk_scan"},
    "chunk_scan_dstates": "out C states",
    "state_passing_grad": "states states states",
    "chunk_scan_dx": "x out x B states CB",
    "chunk_state_db": "x B B states",
    "chunk_scan_dc": "out C C states",
    "chunk_scan_dcb": "x out CB",
    "chunk_bmm_db": "C B CB",
    "chunk_bmm_dc": "B C CB",
    "chunk_scan_da": "x out CB",
    "chunk_cumsum_grad": "dt dt dt",
}
"""Tensors, each as often as it is read or written, gradients by the name of what they are gradients of
(github:state-spaces/mamba mamba_ssm/ops/triton/ssd_combined.py and the kernels that it calls)."""


@FAST
@given(st.data())
def test_each_kernel_of_the_scan_reads_and_writes_its_tensors_once(data: st.DataObject) -> None:
    chunks, length, heads, dim, groups, state = (data.draw(st.integers(1, 64)) for _ in range(6))
    scan = StateSpaceScan(
        chunks=chunks,
        length=length,
        heads=heads,
        head_dim=dim,
        groups=groups,
        state=state,
        dtype="bf16",
        element_bytes=2.0,
    )
    tokens = chunks * length
    sizes = {
        **dict.fromkeys(("x", "out"), 2 * tokens * heads * dim),
        **dict.fromkeys(("B", "C"), 2 * tokens * groups * state),
        "CB": 4 * tokens * length * groups,
        "states": 4 * chunks * heads * dim * state,
        "dt": 4 * tokens * heads,
    }
    for kernels, tensors in ((scan.forward(), FORWARD_SCAN), (scan.backward(), BACKWARD_SCAN)):
        moved = {
            kernel.name: kernel.bytes_moved for kernel in kernels if isinstance(kernel, Scan | Elementwise)
        }
        assert moved == {name: sum(sizes[one] for one in read.split()) for name, read in tensors.items()}


@FAST
@given(
    ranks=st.sampled_from([2, 4, 8]),
    balanced=st.booleans(),
    in_fp32=st.booleans(),
    direction=st.sampled_from(["forward", "backward"]),
    element=st.sampled_from([2.0, 4.0]),
)
def test_a_ring_merges_each_result_or_gradient_into_its_sum(
    ranks: int, balanced: bool, in_fp32: bool, direction: Pass, element: float
) -> None:
    """Fused, a value is read and added to a sum; eager kernels also cast it, and write each difference."""
    work = Attention(
        sequences=3,
        heads=8,
        kv_heads=2,
        head_dim=96,
        value_dim=64,
        seq_q=1024,
        seq_kv=1024 * ranks,
        pairs=1024 * 1024 * ranks / 2,
        kernel="flash2",
        dtype="bf16",
        direction=direction,
    )
    steps = ring_kernels(work, ranks, balanced=balanced, element_bytes=element, in_fp32=in_fp32)
    assert sum(kernel.pairs for kernel, _ in steps) == pytest.approx(work.pairs)  # type: ignore[union-attr]
    for kernel, merge in steps:
        assert isinstance(kernel, Attention)
        assert isinstance(merge, Elementwise)
        queries, keys = 3 * 8 * kernel.seq_q, 3 * 2 * kernel.seq_kv
        if direction == "forward":
            fp32_passes = 1 + 8 if in_fp32 else 2
            expected = queries * 64 * (element + 4 * fp32_passes)
        elif in_fp32:
            summed = element + 4 + 4
            expected = queries * 96 * summed + keys * (96 + 64) * (summed + 4 + 4)
        else:
            expected = (queries * 96 + keys * (96 + 64)) * 3 * element
        assert merge.bytes_moved == pytest.approx(expected)
        assert merge.kernels == (4 if in_fp32 else 1)  # a cast, two differences and a product


CHAINS: dict[tuple[str, str], list[str]] = {
    ("fused", "residual"): ["x x x m"],
    ("fused", "residual_grad"): ["x x x", "x x m"],
    ("fused", "activation"): ["x x x"],
    ("fused", "activation_grad"): ["x x x x x"],
    ("eager", "residual"): ["x x", "x x m", "x x x"],  # bias, dropout, sum
    ("eager", "residual_grad"): ["x x x", "x x m"],
    ("eager", "activation"): ["x x", "x x x"],  # SiLU, product with the gate
    ("eager", "activation_grad"): ["x x x x x", "x x x"],  # gradients of both operands, SiLU's
}
"""Kernels of an operation, each with what it reads and writes: values of the operation's format, or masks."""


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("stack", ["fused", "eager"])
def test_memory_bound_operations_run_the_kernels_of_their_chain(stack: str, tp: int) -> None:
    model = replace(MODEL, residual_dropout=True)
    scenario = make_scenario(model=model, tp=tp)
    fused = {"fused": frozenset({"bias_activation", "dropout_add"}), "eager": frozenset()}[stack]
    software = replace(scenario.software, fused=fused, gate_apart=True)
    works = {
        work.name: work
        for block in layer(replace(scenario, software=software))
        for work in ops(block.program)
        if isinstance(work, Elementwise)
    }
    tokens = scenario.training.seq_length
    for (kind, name), chain in CHAINS.items():
        if kind == stack:
            width = model.intermediate_size if "activation" in name else model.hidden_size
            elements = tokens * width / tp
            tensors = " ".join(chain).split()
            expected = elements * sum({"x": 2, "m": 1}[tensor] for tensor in tensors)
            assert works[name].bytes_moved == pytest.approx(expected), name
            assert works[name].kernels == len(chain), name


LOSSES: dict[str, tuple[dict[str, object], list[str], list[str]]] = {
    "fused": ({"fused": frozenset({"cross_entropy"})}, ["x", "x"], ["x x"]),
    "in place": (  # cast, maximum, difference, exponential, sum, quotient; product, cast back
        {"fused": frozenset(), "loss_in_place": True},
        ["x w", "w", "w w", "w w", "w", "w w"],
        ["w w", "w x"],
    ),
    "out of place": (  # cast, log-softmax of three reads; a cleared gradient, that of log-softmax, cast back
        {"fused": frozenset(), "loss_in_place": False},
        ["x w", "w w w w"],
        ["w", "w w w w", "w x"],
    ),
}
"""Passes over the logits, in the activations' format or in fp32 (w)."""


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_passes_over_the_logits_as_its_stack_does(name: str, tp: int) -> None:
    options, forward, backward = LOSSES[name]
    scenario = make_scenario(tp=tp)
    scenario = replace(scenario, software=replace(scenario.software, **options))  # type: ignore[arg-type]
    work = head(scenario)
    logits = scenario.training.seq_length * -(-MODEL.vocab_size // (128 * tp)) * 128
    for block, passes, kernel in ((work.forward, forward, "loss"), (work.backward, backward, "loss_grad")):
        (loss,) = (work for work in ops(block.program) if getattr(work, "name", "") == kernel)
        assert isinstance(loss, Elementwise)
        per_logit = sum({"x": 2, "w": 4}[one] for one in " ".join(passes).split())
        assert loss.bytes_moved == pytest.approx(logits * per_logit)
        assert loss.kernels >= len(passes)


PERMUTATIONS: dict[tuple[bool, str], list[str]] = {
    (True, "permute"): ["i", "t c"],  # the index, the copy
    (True, "permute_grad"): ["i", "t c"],
    (True, "unpermute"): ["c t"],
    (True, "unpermute_grad"): ["t c"],
    (False, "permute"): ["i", "i", "i", "i", "t c"],  # the routing map is sorted first
    (False, "permute_grad"): ["i", "t c"],
    (False, "unpermute"): ["c c", "t", "c c c"],  # product with probabilities, zeros, addition in place
    (False, "unpermute_grad"): ["t c", "c c", "c"],
}
"""Kernels that put tokens (t) in the order of their experts as copies (c), and back."""


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("copies", [1, 2, 4])
def test_permutations_read_and_write_tokens_and_copies_kernel_by_kernel(copies: int, fused: bool) -> None:
    experts = Experts(num_experts=8, num_experts_per_tok=copies, moe_intermediate_size=1024)
    scenario = make_scenario(model=replace(MODEL, experts=experts), dp=2)
    software = replace(scenario.software, fused=frozenset({"permute"} if fused else ()))
    works = {
        work.name: work
        for block in layer(replace(scenario, software=software))
        for work in ops(block.program)
        if isinstance(work, Elementwise)
    }
    token = 2 * scenario.training.seq_length * MODEL.hidden_size
    sizes = {"t": token, "c": copies * token, "i": 0}
    for (is_fused, name), chain in PERMUTATIONS.items():
        if is_fused == fused:
            moved = sum(sizes[tensor] for tensor in " ".join(chain).split())
            assert works[name].bytes_moved == pytest.approx(moved), name
            assert works[name].kernels == len(chain), name


@FAST
@given(tp=st.sampled_from([2, 4, 8]), seq=st.sampled_from([1024, 4096]))
def test_results_that_come_round_in_chunks_are_read_once_and_one_chunk_is_written(tp: int, seq: int) -> None:
    overlap = Overlap(grad_reduce=True, param_gather=True, p2p=True, tp=True)
    scenario = make_scenario(tp=tp, seq_length=seq, overlap=overlap)
    scenario = replace(scenario, software=replace(scenario.software, tp_reduce_pieces=0))
    merged = [work for work in ops(layer(scenario)[0].program) if getattr(work, "name", "").endswith("_sum")]
    apart = [
        work
        for work in ops(
            layer(replace(scenario, training=make_scenario(tp=tp, seq_length=seq).training))[0].program
        )
        if isinstance(work, Collective) and work.kind == "reduce_scatter"
    ]
    assert len(merged) == len(apart) > 0
    for merge, whole in zip(merged, apart, strict=True):
        assert isinstance(merge, Elementwise)
        assert merge.bytes_moved == pytest.approx(whole.bytes + whole.bytes / tp)


@pytest.mark.parametrize(
    ("fused", "kept", "taken"),
    [
        ((), "w x", "w w w"),  # the input and the normalised values; three gradients of the former
        (("norm",), "x", "x x"),
        (("norm", "norm_gradient"), "x", "x x"),
    ],
)
def test_a_norm_keeps_its_input_and_eager_ones_their_values_in_fp32(
    fused: tuple[str, ...], kept: str, taken: str
) -> None:
    scenario = make_scenario(tp=2)
    scenario = replace(scenario, software=replace(scenario.software, fused=frozenset(fused)))
    settings_ = layer_settings(scenario)
    step = norm(settings_.sizes, settings_.kernels, "norm", 512)
    elements = scenario.training.seq_length / 2 * 512
    width = {"x": 2, "w": 4}
    assert step.saved_bytes == elements * sum(width[one] for one in kept.split())
    assert step.working_bytes == elements * sum(width[one] for one in taken.split())


@pytest.mark.parametrize("gated", [True, False])
def test_an_activation_inside_grouped_products_moves_what_it_converts(gated: bool) -> None:
    """Backward it reads the first product's result, gate and value, and writes its gradient converted."""
    scenario = make_scenario()
    settings_ = layer_settings(replace(scenario, training=replace(scenario.training, precision="fp8-mx")))
    step = _fused_activation(settings_.sizes, settings_.kernels, 64, 128, gated=gated)
    (there,), (back,) = step.forward, step.backward
    assert isinstance(there, Elementwise)
    assert isinstance(back, Elementwise)
    converted = 2 * (1 + 1 / 32)  # along rows and along columns, a scale for 32 values
    assert there.bytes_moved == 64 * 128 * converted
    assert back.bytes_moved == 64 * 128 * (2 if gated else 1) * (2 + converted)


@pytest.mark.parametrize("experts", [1, 2, 5])
def test_each_expert_runs_kernels_of_its_own_for_its_bias(experts: int) -> None:
    """Forward a product and a sum each; then all are put together and cast."""
    (step,) = _bias(experts, 64, 128)
    assert isinstance(step, Pointwise)
    (forward,), (backward,) = step.forward, step.backward
    assert isinstance(forward, Elementwise)
    assert isinstance(backward, Elementwise)
    assert (forward.kernels, backward.kernels) == (2 * experts + 2, 5 * experts + 1)
    assert (forward.bytes_moved, backward.bytes_moved) == (28 * experts * 64 * 128, 40 * experts * 64 * 128)
