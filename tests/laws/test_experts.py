"""Laws of layers with experts, over degrees, dispatchers and routings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from factories import GPU, MODEL, NETWORK, SOFTWARE, make_scenario
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from laws.layers import stages_of
from simulator import catalogue
from simulator.api import estimate_memory, simulate
from simulator.costs.collectives import collective_cost
from simulator.results.flops import forward_flops
from simulator.scenario import Cluster, Experts, Mamba
from simulator.scenario.parameters import ModelParameters
from simulator.schedules import Overlapped, passes
from simulator.workload.grid import ExpertMesh
from simulator.workload.layers.experts.destinations import expected_targets
from simulator.workload.layers.experts.dispatchers import DISPATCHERS
from simulator.workload.layers.experts.token_load import TokenFlow, token_flow
from simulator.workload.layers.host import launches
from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.layers.settings import layer_settings
from simulator.workload.parameters.counts import LocalParameters, stage_parameters
from simulator.workload.pipeline import Pipeline
from simulator.workload.work import Collective, Elementwise, Gemm, Group, Routing
from tests.laws.layers import layer, layer_flops, ops

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Program

FAST = settings(max_examples=20, deadline=None)
EXPERTS = Experts(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=2048, num_shared_experts=1)
SPARSE = replace(MODEL, num_hidden_layers=4, experts=EXPERTS)
dispatchers = st.sampled_from(sorted(DISPATCHERS))


@st.composite
def sparse(draw: st.DrawFn, *, pp: int = 1) -> Scenario:
    """Draw a scenario with experts whose mesh folds into the ranks of a stage."""
    tp, cp, dp = (
        draw(st.sampled_from([1, 2, 4])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([2, 4, 8])),
    )
    ep, etp = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([1, 2, 4]))
    assume((tp * cp * dp) % (ep * etp) == 0)
    scenario = make_scenario(model=SPARSE, tp=tp, cp=cp, dp=dp, pp=pp, seq_length=2048, microbatches=2)
    degrees = replace(scenario.parallelism, ep=ep, etp=etp)
    return with_experts(replace(scenario, parallelism=degrees), dispatcher=draw(dispatchers))


def with_experts(scenario: Scenario, **settings_: object) -> Scenario:
    experts = replace(scenario.training.experts, **settings_)  # type: ignore[arg-type]
    return replace(scenario, training=replace(scenario.training, experts=experts))


def flow_of(scenario: Scenario) -> TokenFlow:
    settings = layer_settings(scenario)
    assert settings.experts is not None
    return token_flow(settings.sizes, settings.kernels, EXPERTS, settings.experts, settings.model.hidden_size)


def overlapping(scenario: Scenario, **axes: bool) -> Scenario:
    overlap = replace(scenario.training.overlap, **axes)
    return replace(scenario, training=replace(scenario.training, overlap=overlap))


def gemm_flops(program: Program, prefix: str = "") -> float:
    works = [program.works[index] for index in program.work.tolist()]
    return sum(work.flops for work in works if isinstance(work, Gemm) and work.name.startswith(prefix))


def exchanges(program: Program, name: str) -> list[Collective]:
    works = [program.works[index] for index in program.work.tolist()]
    return [work for work in works if isinstance(work, Collective) and work.name.startswith(name)]


@FAST
@given(sparse())
def test_experts_compute_the_same_in_every_mesh(scenario: Scenario) -> None:
    degrees = scenario.parallelism
    ranks = degrees.tp * degrees.cp * degrees.dp
    layer = stages_of(scenario)[0].works[1]
    tokens = scenario.training.seq_length * scenario.training.micro_batch_size * degrees.dp
    visits = tokens * EXPERTS.num_experts_per_tok
    expected = visits * 2.0 * 3 * MODEL.hidden_size * EXPERTS.moe_intermediate_size
    assert ranks * gemm_flops(layer.forward.program, "expert_") == pytest.approx(expected)
    assert ranks * gemm_flops(layer.backward.program, "expert_") == pytest.approx(2 * expected)


@FAST
@given(sparse())
def test_each_copy_travels_once_and_none_where_all_experts_are_local(scenario: Scenario) -> None:
    degrees, sizes = scenario.parallelism, local_sizes(scenario)
    program = stages_of(scenario)[0].works[1].forward.program
    sent = [*exchanges(program, "dispatch"), *exchanges(program, "combine")]
    copies = sizes.divided_tokens * EXPERTS.num_experts_per_tok
    if scenario.training.experts.dispatcher == "allgather":
        assert not sent
        gathers = exchanges(program, "expert_all_gather")
        together = degrees.ep * degrees.expert_tp
        size = sizes.divided_tokens * together * MODEL.hidden_size * 2.0
        assert [(g.group.size, g.bytes) for g in gathers] == ([(together, size)] if together > 1 else [])
    elif degrees.ep == 1:
        assert not sent
    else:
        assert [(g.kind, g.group.size, g.bytes) for g in sent] == [
            ("all_to_all", degrees.ep, copies * MODEL.hidden_size * 2.0)
        ] * 2
    if scenario.training.experts.dispatcher == "alltoall":
        gathers_rows = sizes.sequence_parallel or degrees.tp == 1
        senders = degrees.ep * (degrees.expert_tp if gathers_rows else 1)
        is_sorted = any(work.name == "sort_chunks" for work in ops(program))  # type: ignore[union-attr]
        assert is_sorted == (senders > 1 and degrees.ep < EXPERTS.num_experts)


@FAST
@given(sparse())
def test_expert_groups_fold_the_ranks_of_a_stage(scenario: Scenario) -> None:
    degrees = scenario.parallelism
    ranks = degrees.tp * degrees.cp * degrees.dp
    mesh = ExpertMesh.of(degrees)
    groups = [mesh.group(axis) for axis in ("etp", "ep", "edp")]
    reached = {0}
    for group in groups:
        reached = {rank + group.stride * step for rank in reached for step in range(group.size)}
    assert reached == set(range(ranks))
    if degrees.etp == degrees.tp:
        assert groups[1].stride == mesh.mesh.stride("dp") // (max(1, degrees.cp))
    assert mesh.replicas().size * degrees.ep * degrees.expert_tp == ranks


@FAST
@given(sparse())
def test_parameters_of_all_ranks_are_those_of_the_model(scenario: Scenario) -> None:
    degrees = scenario.parallelism
    stage = stages_of(scenario)[0]
    part = stage_parameters(LocalParameters.of(scenario.model, scenario.parallelism), stage.outline)
    layer = ModelParameters.of(SPARSE).counts[True, "layer"]
    assert part.experts * degrees.expert_tp * degrees.ep == layer.experts * SPARSE.num_hidden_layers
    copies = (degrees.tp - 1) * (layer.replicated * SPARSE.num_hidden_layers + SPARSE.hidden_size)
    everything = part.dense * degrees.tp + part.experts * degrees.expert_tp * degrees.ep
    padded = replace(SPARSE, vocab_size=local_sizes(scenario).vocabulary * degrees.tp)
    assert everything - copies == pytest.approx(ModelParameters.of(padded).total, rel=1e-9)


@FAST
@given(sparse(), st.floats(1.0, 3.0), st.floats(0.0, 2.0))
def test_capacity_beyond_the_load_drops_nothing(scenario: Scenario, imbalance: float, more: float) -> None:
    def flow(**settings_: object) -> TokenFlow:
        return flow_of(with_experts(scenario, **settings_))

    balanced = flow()
    assert flow(load_imbalance=1.0) == balanced
    assert flow(load_imbalance=imbalance, capacity_factor=1.0) == balanced
    loaded = flow(load_imbalance=imbalance)
    assert flow(load_imbalance=imbalance, capacity_factor=imbalance + more) == loaded
    padded = flow(load_imbalance=1.0, capacity_factor=imbalance, pad_to_capacity=True)
    assert padded == loaded


@settings(max_examples=6, deadline=None)
@given(sparse(), st.floats(1.2, 3.0))
def test_imbalance_costs_time_and_memory(scenario: Scenario, imbalance: float) -> None:
    loaded = with_experts(scenario, load_imbalance=imbalance)
    assert simulate(loaded).metrics["step_time_s"] > simulate(scenario).metrics["step_time_s"]
    assert estimate_memory(loaded).worst.activations > estimate_memory(scenario).worst.activations


routings = st.sampled_from(
    [
        Routing(experts=64, copies=8),
        Routing(experts=256, copies=8, groups=8, chosen_groups=4),
        Routing(experts=64, copies=2, groups=4, chosen_groups=1),
        Routing(experts=8, copies=2),
    ]
)


@given(routings, st.sampled_from([1, 2, 4, 8]))
def test_targets_lie_between_one_and_the_copies(routing: Routing, units: int) -> None:
    targets = expected_targets(routing, units)
    assert 1 - 1e-12 <= targets <= min(units, routing.copies) + 1e-12
    assert expected_targets(routing, 2 * units if 2 * units <= routing.experts else units) >= targets - 1e-12
    assert expected_targets(routing, routing.experts) == pytest.approx(routing.copies)


@FAST
@given(routings, st.sampled_from([2, 4, 8]), st.floats(1e6, 1e9), st.sampled_from(["deepep", "hybridep"]))
def test_sending_tokens_once_moves_fewer_bytes(
    routing: Routing, ranks: int, size: float, kernel: str
) -> None:
    cluster = Cluster(gpu=GPU, gpus=64, gpus_per_node=8, scale_up_domain=2, network=NETWORK)
    plain = Collective(kind="all_to_all", group=Group(axis="ep", size=ranks, stride=1), bytes=size)
    once = replace(plain, kernel=kernel, routing=routing)  # type: ignore[arg-type]
    assert collective_cost(once, cluster).wire_bytes <= collective_cost(plain, cluster).wire_bytes * (
        1 + 1e-12
    )
    assert (
        collective_cost(replace(once, bytes=2 * size), cluster).alone_s
        > collective_cost(once, cluster).alone_s
    )


# Microseconds of dispatch and combine, 4096 tokens of 7168 values, 256 experts, top-8 in 4 of 8 groups, by
# GPU, expert-parallel ranks and kernel: arXiv:2603.07685, table 7 (communication only).
PUBLISHED = {
    ("h100-80gb-sxm", 8): {"hybridep": (661, 624), "nccl": (1265, 1277)},
    ("h100-80gb-sxm", 16): {"hybridep": (1485, 1688), "nccl": (5774, 5628)},
    ("h100-80gb-sxm", 32): {"hybridep": (3064, 3088), "nccl": (8059, 7815)},
    ("h100-80gb-sxm", 64): {"hybridep": (4626, 4398), "nccl": (9164, 8727)},
    ("gb200", 8): {"hybridep": (391, 353), "nccl": (735, 741)},
    ("gb200", 16): {"hybridep": (578, 527), "nccl": (743, 765)},
    ("gb200", 32): {"hybridep": (612, 646), "nccl": (769, 758)},
    ("gb200", 64): {"hybridep": (675, 744), "nccl": (930, 827)},
}


def test_dispatch_and_combine_cost_what_was_measured() -> None:
    routing = Routing(experts=256, copies=8, groups=8, chosen_groups=4)
    errors = []
    for (name, ranks), kernels in PUBLISHED.items():
        gpu, network = catalogue.gpu(name), catalogue.network("rail-optimised-400g")
        domain = gpu.scale_up_domain
        cluster = Cluster(
            gpu=gpu, gpus=max(64, domain), gpus_per_node=8, scale_up_domain=domain, network=network
        )
        for kernel, (there, back) in kernels.items():
            collective = Collective(
                kind="all_to_all",
                group=Group(axis="ep", size=ranks, stride=1),
                bytes=4096 * 8 * 7168 * 2.0,
                kernel=kernel,  # type: ignore[arg-type]
                routing=routing,
            )
            errors.append(collective_cost(collective, cluster).alone_s * 2e6 / (there + back) - 1)
    assert sum(map(abs, errors)) / len(errors) < 0.07
    assert max(map(abs, errors)) < 0.15


@settings(max_examples=8, deadline=None)
@given(sparse())
def test_hiding_exchanges_is_never_slower(scenario: Scenario) -> None:
    alone = simulate(scenario)
    for axis in ("ep", "shared_experts"):
        hidden = simulate(overlapping(scenario, **{axis: True}))
        slack = 1 + (0.01 if scenario.training.experts.dispatcher in {"deepep", "hybridep"} else 1e-9)
        assert hidden.metrics["step_time_s"] <= alone.metrics["step_time_s"] * slack
        assert hidden.breakdown.exposed_ep <= alone.breakdown.exposed_ep * slack + 1e-9


@FAST
@given(st.sampled_from([1, 2, 4]), st.integers(2, 3), st.integers(1, 4))
def test_pairs_never_hold_one_micro_batch(pp: int, chunks: int, groups: int) -> None:
    vpp = chunks if pp > 1 else 1
    model = replace(SPARSE, num_hidden_layers=pp * vpp)
    scenario = make_scenario(model=model, pp=pp, vpp=vpp, ep=2, dp=2, microbatches=groups * pp)
    plain, paired = Pipeline.of(scenario).order(), Pipeline.of(overlapping(scenario, ep=True)).order()
    for mine, theirs in zip(plain, paired, strict=True):
        assert sorted(passes(mine)) == sorted(passes(theirs))
        for entry in theirs:
            if isinstance(entry, Overlapped):
                assert entry.forward.microbatch != entry.backward.microbatch or pp > 1
                assert entry.forward[1:] != entry.backward[1:]
    assert math.isfinite(simulate(overlapping(scenario, ep=True)).metrics["step_time_s"])


def test_graphs_save_launches_and_nothing_else() -> None:
    slow = replace(SOFTWARE, kernel_launch_s=1e-4, module_call_s=1e-4)
    scenario = make_scenario(model=SPARSE, ep=2, dp=2, software=slow)
    times = [
        simulate(replace(scenario, training=replace(scenario.training, cuda_graphs=scopes))).metrics[
            "step_time_s"
        ]
        for scopes in ((), ("moe_router",), ("attn", "moe_router"), ("full_iteration",))
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[1] > times[2] > times[3]
    instant = make_scenario(model=SPARSE, ep=2, dp=2)
    assert times[3] == pytest.approx(simulate(instant).metrics["step_time_s"])


HYBRID = replace(
    MODEL,
    num_hidden_layers=6,
    layer_pattern="ME*-ME",
    mamba=Mamba(num_heads=64, head_dim=64, state_size=128, n_groups=8),
    experts=replace(EXPERTS, moe_latent_size=1024),
    gated=False,
)


@pytest.mark.parametrize("predictions", [0, 1, 2])
@pytest.mark.parametrize("model", [SPARSE, HYBRID], ids=["layers", "hybrid"])
def test_products_are_those_that_are_counted(model: object, predictions: int) -> None:
    """Every matrix product outside attention cores and scans is one of the model's, and none is missing."""
    counted = replace(model, num_nextn_predict_layers=predictions)  # type: ignore[type-var]
    scenario = make_scenario(model=counted, tp=2, ep=2, dp=2)
    works = [work for stage in stages_of(scenario) for work in stage.works]
    made = sum(
        gemm_flops(work.forward.program) - gemm_flops(work.forward.program, "chunk_") for work in works
    )
    forward = forward_flops(counted, scenario.training.seq_length)
    scans = 0.0
    if counted.mamba is not None:
        layers = counted.layer_pattern.count("M")
        scans = layers * 7.0 * counted.mamba.inner * counted.mamba.state_size
    expected = (forward.layers - scans + forward.head) * scenario.training.seq_length / 2
    padding = 2.0 * MODEL.hidden_size * (local_sizes(scenario).vocabulary * 2 - MODEL.vocab_size)
    expected += (1 + predictions) * padding * scenario.training.seq_length / 2
    assert made == pytest.approx(expected, rel=1e-9)


def test_hybrid_models_have_their_published_sizes() -> None:
    assert ModelParameters.of(catalogue.model("nemotron-3-nano")).total == pytest.approx(31.6e9, rel=2e-3)
    blocks = {catalogue.model(name).layer_pattern for name in ("nemotron-3-nano", "nemotron-3.5-lightning")}
    assert blocks == {"MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"}


def test_dense_first_layers_have_no_experts() -> None:
    model = replace(SPARSE, experts=replace(EXPERTS, first_k_dense_replace=2))
    works = stages_of(make_scenario(model=model, ep=2, dp=2))[0].works[1:5]
    assert [bool(exchanges(work.forward.program, "dispatch")) for work in works] == [False, False, True, True]


def test_sequential_experts_compute_the_same_in_more_kernels() -> None:
    scenario = make_scenario(model=SPARSE, ep=2, dp=2)
    grouped = stages_of(scenario)[0].works[1].forward.program
    single = stages_of(with_experts(scenario, grouped_gemm=False))[0].works[1].forward.program
    assert gemm_flops(single, "expert_") == gemm_flops(grouped, "expert_")
    assert single.num_ops > grouped.num_ops


@FAST
@given(local=st.sampled_from([1, 2, 4, 8]))
def test_one_call_launches_the_products_of_all_experts_of_a_rank(local: int) -> None:
    """More experts on a rank add launches from loops, but no call of the framework."""
    few, many = (
        launches(layer(replace(scenario, parallelism=replace(scenario.parallelism, ep=ep)))[0].program)
        for scenario in [make_scenario(model=SPARSE, dp=16, seq_length=2048)]
        for ep in (16 // local, 16 // (2 * local))
    )
    assert many.first - few.first <= 2  # chunks of several local experts are sorted, and restored
    assert many.further - few.further == 2 * local


def test_fused_experts_leave_no_conversion_between_their_products() -> None:
    gpu = catalogue.gpu("gb200")
    scenario = make_scenario(model=SPARSE, dp=4, seq_length=2048, gpu=gpu)
    scenario = replace(
        scenario,
        training=replace(scenario.training, precision="fp8-mx"),
        parallelism=replace(scenario.parallelism, ep=4),
    )
    fused = replace(
        scenario, software=replace(scenario.software, fused=scenario.software.fused | {"grouped_mlp"})
    )
    names = [
        {work.name for work in ops(block.program)} - {work.name for work in ops(other.program)}
        for block, other in zip(layer(scenario), layer(fused), strict=True)
    ]
    assert names == [{"expert_down_cast"}, {"expert_up_grad_cast"}]
    assert layer_flops(fused) == layer_flops(scenario)


@FAST
@given(scenario=sparse())
def test_sorting_copies_moves_them_more_often_and_no_product_changes(scenario: Scenario) -> None:
    scenario = with_experts(scenario, dispatcher="alltoall")
    sorts = replace(scenario, software=replace(scenario.software, sorts_copies=True))
    moved = [
        sum(
            work.bytes_moved
            for work in ops(layer(each)[0].program)
            if isinstance(work, Elementwise) and work.name == "permute"
        )
        for each in (scenario, sorts)
    ]
    flow = flow_of(scenario)
    assert moved[1] - moved[0] == pytest.approx(2 * flow.copy_bytes)
    assert layer_flops(sorts) == layer_flops(scenario)


def test_two_embeddings_beside_each_other_share_their_time() -> None:
    model = replace(SPARSE, num_hidden_layers=4)
    scenario = overlapping(make_scenario(model=model, pp=2, vpp=2, ep=2, dp=2, microbatches=8), ep=True)
    stages = replace(scenario.parallelism, stage_layers=(0, 1, 1, 2))
    assert math.isfinite(simulate(replace(scenario, parallelism=stages)).metrics["step_time_s"])
