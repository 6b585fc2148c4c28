"""Scenarios of every schedule, sharding, overlap and bucket size, small enough to look at every op."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from factories import MODEL, SOFTWARE, make_scenario
from hypothesis import strategies as st

from simulator.scenario import Experts, Offload, Overlap, Pool
from simulator.schedules import SCHEDULES, Action, Request
from simulator.schedules.csv_form import write_rows
from simulator.schedules.op_kind import OpKind

if TYPE_CHECKING:
    from simulator.scenario import Model, Scenario
    from simulator.scenario.parallelism import Parallelism

MIXTURE = Experts(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=4096, first_k_dense_replace=1)
"""After a dense layer."""
SHARES_VOCABULARY = ("1f1b", "gpipe", "zb-h1", "zb-1p", "zb-2p", "zb-v", "v-half", "v-min")
PAIRED = ("1f1b", "interleaved")
"""Schedules whose passes run in pairs with ``overlap.ep``."""
CUSTOM = "custom"


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    bucketed: bool = False,
    sharding: str = "",
    vocabulary: bool = False,
    overlapped: bool = False,
    paired: bool = False,
) -> Scenario:
    """Draw a scenario.

    Args:
        draw: Hypothesis' way of drawing.
        bucketed: Whether to draw only those whose passes run one by one, with whole weights on every rank and
            gradients reduced once a step: those that the vectorised layout takes.
        sharding: Kind of sharding; empty: any.
        vocabulary: Whether pipeline ranks divide the output layer in all of them.
        overlapped: Whether all of them overlap messages, gathers and reductions of several replicas, so that
            passes are cut and no stream orders their parts and messages by itself.
        paired: Whether passes run in pairs in all of them, as DualPipe has it.
    """
    degrees = [(1, 1), (2, 1), (4, 1), (2, 2), (2, 2), (3, 2)]
    degrees = [(2, 1), (2, 2)] if paired else degrees[vocabulary or overlapped :]
    pp, vpp = draw(st.sampled_from(degrees))
    microbatches = 2 * pp if paired else draw(st.sampled_from([1, pp, 2 * pp, 2 * pp + 1]))
    layers = _stage_layers(draw, pp * vpp)
    model = replace(_model(draw), num_hidden_layers=sum(layers))
    if vocabulary:
        model = replace(model, tie_word_embeddings=False)
    kinds = ["none", "zero1", "zero2"] + ["zero3", "zero3"] * (not bucketed)
    sharding = sharding or draw(st.sampled_from(kinds))
    ep = draw(st.sampled_from([1, 2])) if model.experts else 1
    overlap = Overlap(
        grad_reduce=overlapped or draw(st.booleans()),
        param_gather=overlapped or draw(st.booleans()),
        p2p=overlapped or draw(st.booleans()),
        tp=draw(st.booleans()),
        ep=not (bucketed or vocabulary or paired) and ep > 1 and draw(st.booleans()),
    )
    software = replace(
        SOFTWARE,
        bucket_bytes=draw(st.sampled_from([1e8, 1.5e9, 3e9, 1e13])),
        broadcasts_weights=draw(st.booleans()),
        sums_whole_gradients=draw(st.booleans()),
        unshard_copies=draw(st.booleans()),
        gathers_tensor_by_tensor=draw(st.booleans()),
    )
    scenario = make_scenario(
        model=model,
        tp=draw(st.sampled_from([1, 2])),
        pp=pp,
        vpp=vpp,
        cp=draw(st.sampled_from([1, 1, 2])),
        ep=ep,
        dp=draw(st.sampled_from([2, 4] if ep > 1 or overlapped else [1, 2, 4, 4])),
        microbatches=microbatches,
        seq_length=2048,
        sharding=sharding,
        shard_size=None if sharding == "none" else draw(st.sampled_from([None, 1, 2])),
        reshard_after_forward=draw(st.booleans()),
        prefetch=draw(st.integers(0, 3)),
        reduce_every_microbatch=not bucketed and draw(st.booleans()),
        grad_dtype=draw(st.sampled_from(["fp32", "bf16"])),
        overlap=overlap,
        software=software,
    )
    offload = Offload(
        optimizer=draw(st.sampled_from(["none", "none", "stream", "cpu"])),
        optimizer_fraction=draw(st.sampled_from([0.5, 1.0])),
        optimizer_overlap=draw(st.booleans()),
    )
    training = replace(
        scenario.training,
        offload=offload,
        precision=draw(st.sampled_from(["bf16", "bf16", "fp8-delayed"])),
        post_validation=draw(st.booleans()),
    )
    parallelism = replace(scenario.parallelism, stage_layers=layers)
    parallelism = _scheduled(draw, parallelism, microbatches, model, bucketed=bucketed, pairs=overlap.ep)
    if vocabulary:
        name = draw(
            st.sampled_from(
                ["1f1b", "gpipe", "zb-h1", "zb-1p", "zb-2p"] if vpp == 1 else ["zb-v", "v-half", "v-min"]
            )
        )
        methods = ["vocab-1", "vocab-2"] + ["interlaced"] * (name == "1f1b")
        parallelism = replace(
            parallelism, schedule=name, schedule_rows=(), vocabulary=draw(st.sampled_from(methods))
        )
    if paired:
        name = "dualpipe" if vpp == 1 else "dualpipe-v"
        parallelism = replace(parallelism, schedule=name, schedule_rows=(), vocabulary="none")
    cluster = scenario.cluster
    if draw(st.sampled_from([False, False, True])):
        parts = (_pool(scenario),) * pp
        cluster = replace(cluster, pools=parts)
    return replace(scenario, cluster=cluster, parallelism=parallelism, training=training)


def _pool(scenario: Scenario) -> Pool:
    """Return the accelerators of one pipeline rank of a mixed cluster."""
    cluster = scenario.cluster
    gpus = scenario.parallelism.gpus // scenario.parallelism.pp
    return Pool(gpu=cluster.gpu, gpus=gpus, gpus_per_node=8, scale_up_domain=8, network=cluster.network)


def _model(draw: st.DrawFn) -> Model:
    """Draw a model that may tie its tables, have experts and predict further tokens."""
    return replace(
        MODEL,
        tie_word_embeddings=draw(st.booleans()),
        num_nextn_predict_layers=draw(st.sampled_from([0, 0, 1, 2])),
        experts=draw(st.sampled_from([None, None, MIXTURE])),
    )


def _stage_layers(draw: st.DrawFn, stages: int) -> tuple[int, ...]:
    """Draw how many layers each stage has; only the first and the last may hold none."""
    inner = [draw(st.integers(1, 3)) for _ in range(stages)]
    if stages > 2:
        inner[0] -= draw(st.sampled_from([0, inner[0]]))
        inner[-1] -= draw(st.sampled_from([0, inner[-1]]))
    return tuple(inner)


def _scheduled(
    draw: st.DrawFn, parallelism: Parallelism, microbatches: int, model: Model, *, bucketed: bool, pairs: bool
) -> Parallelism:
    pp, vpp = parallelism.pp, parallelism.vpp
    request = Request(pp=pp, vpp=vpp, num_microbatches=microbatches)
    names = [name for name, one in SCHEDULES.items() if one.takes_chunks(vpp) and one.fits(request)]
    if bucketed:
        names = [name for name in names if not name.startswith("dualpipe")]
    if pairs:
        # On several ranks with one chunk each, pairs of neighbours would wait for each other.
        wanted = [name for name in names if name in PAIRED and (pp == 1 or vpp > 1)]
        names = wanted or names
        if not wanted:
            names = [name for name in names if name not in PAIRED]
    else:
        names += [CUSTOM, CUSTOM]
    name = draw(st.sampled_from(sorted(names)))
    parallelism = replace(parallelism, schedule=name)
    if name == CUSTOM:
        return replace(parallelism, schedule_rows=draw(rows(pp, pp * vpp, microbatches)))
    if bucketed or pp == 1 or model.tie_word_embeddings or name not in SHARES_VOCABULARY:
        return parallelism
    methods = ["none", "vocab-1", "vocab-2"] + ["interlaced"] * (name == "1f1b")
    return replace(parallelism, vocabulary=draw(st.sampled_from(methods)))


@st.composite
def rows(draw: st.DrawFn, ranks: int, stages: int, microbatches: int) -> tuple[str, ...]:
    """Draw a schedule in PyTorch's CSV form.

    Stages lie on any ranks, some backward passes are split, and passes come in any order that can run.
    """
    holders = draw(st.permutations([stage % ranks for stage in range(stages)]))
    random = draw(st.randoms(use_true_random=False))
    splits = draw(st.sampled_from(["none", "some", "all"]))
    done: set[Action] = set()
    order: list[list[Action]] = [[] for _ in range(ranks)]
    ready = [Action(OpKind.FORWARD, 0, microbatch) for microbatch in range(microbatches)]
    while ready:
        action = ready.pop(random.randrange(len(ready)))
        order[holders[action.stage]].append(action)
        done.add(action)
        ready += _next_passes(
            action, stages, halves=splits == "all" or (splits == "some" and random.random() < 0.5)
        )
    return write_rows(tuple(map(tuple, order)))


def _next_passes(action: Action, stages: int, *, halves: bool) -> list[Action]:
    """Return what can run once a pass has: backward as a whole, or its input gradient."""
    kind, stage, microbatch = action
    back = OpKind.BACKWARD_INPUT if halves else OpKind.BACKWARD
    if kind is OpKind.FORWARD and stage < stages - 1:
        return [Action(kind, stage + 1, microbatch)]
    if kind is OpKind.FORWARD:
        return [Action(back, stage, microbatch)]
    if kind is OpKind.BACKWARD_WEIGHT:
        return []
    following = [Action(OpKind.BACKWARD_WEIGHT, stage, microbatch)] if kind is OpKind.BACKWARD_INPUT else []
    return following + [Action(back, stage - 1, microbatch)] * (stage > 0)
