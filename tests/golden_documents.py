"""Random scenario documents for the golden record, over every feature that a scenario file can ask for.

``draw`` makes many candidates, keeps those that load and simulate quickly, and chooses from them so that each
feature is used several times. It runs once, when the record is made anew: the record holds the documents.
"""

# ruff: noqa: S311, PLR0911, PLR0912, C901  random on purpose; a table of choices, one branch for each kind

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

Document = dict[str, Any]
Entry = dict[str, Any]
"""``document``, and under ``files`` the lines of the files it names."""
Uses = Callable[[Entry], frozenset[str] | None]
"""Tells which features a candidate uses; None for one that cannot be used."""

GPUS = (
    *("a100-40gb-sxm", "a100-80gb-pcie", "a100-80gb-sxm", "a800-80gb", "b200", "b300", "gaudi2", "gaudi3"),
    *("gb200", "gb300", "gh200-96gb", "h100-80gb-pcie", "h100-80gb-sxm", "h100-94gb-nvl"),
    *("h100-96gb-hbm2e-sxm", "h20-96gb", "h200-141gb", "h800-80gb", "mi250x", "mi250x-gcd", "mi300x"),
    *("mi325x", "mi355x", "trn2", "v100-16gb-sxm", "v100-32gb-sxm"),
)
USUAL_GPUS = ("h100-80gb-sxm", "a100-80gb-sxm", "b200", "gb200", "h200-141gb", "mi300x")
TPUS = ("tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7")
NETWORKS = (
    *("alibaba-hpn7", "aws-p4d", "aws-p5", "azure-nd-h100-v5", "dgx-gb200-superpod", "dgx-h100-superpod"),
    *("eos", "fat-tree-100g", "fat-tree-400g", "frontier", "gcp-a3-mega", "meta-24k-roce", "selene"),
    *("rail-optimised-200g", "rail-optimised-400g", "roce-100g", "roce-400g", "deepseek-v3"),
)
STACKS = (
    *("aleph-alpha-scaling", "bigscience", "gpt-neox", "internevo", "llm-foundry", "maxtext-gpu", "maxtext"),
    *("megascale", "megatron-bridge", "megatron-core", "megatron-deepspeed", "megatron-lm-2021"),
    *("megatron-lm-2022", "megatron-lm-sail-sg-2023", "megatron-lm-sail-sg", "meta-llama3", "nemo"),
    *("torchtitan-compile", "torchtitan"),
)
ONE_CHUNK = ("gpipe", "1f1b", "zb-h1", "zb-1p", "zb-2p", "dualpipe")
TWO_CHUNKS = ("dualpipe-v", "v-half", "v-min", "zb-v")
MANY_CHUNKS = ("interleaved", "interleaved-zb", "looped-bfs")
SHARDINGS = ("none", "zero1", "zero2", "zero3", "fsdp", "full_shard", "shard_grad_op", "hybrid", "hsdp")
PRECISIONS = (
    *("fp32", "tf32", "fp16", "bf16", "fp8", "fp8-delayed", "fp8-current", "fp8-rowwise", "fp8-blockwise"),
    *("fp8-mx", "fp4", "nvfp4"),
)
RECOMPUTED = (
    *("core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts", "per_op"),
    *("save_attention", "save_dots", "save_qkv"),
)
OFFLOADED = ("attn_norm", "core_attn", "attn_proj", "mlp_norm", "mlp", "moe", "expert_fc1", "moe_act")
GRAPHS = ("full_iteration", "attn", "mamba", "mlp", "moe", "moe_router", "moe_preprocess", "shared_experts")
DISPATCHERS = ("alltoall", "allgather", "deepep", "hybridep")
PLACEMENTS = (
    ("dp", "cp", "tp", "pp"),
    ("tp", "pp", "cp", "dp"),
    ("pp", "tp", "dp", "cp"),
    ("cp", "tp", "dp", "pp"),
)
DENSE_LIKE = ("llama3-8b", "llama2-70b", "gpt3-13b", "qwen2.5-7b", "gemma-7b", "mpt-7b", "pythia-6.9b")
EXPERTS_LIKE = ("mixtral-8x7b", "deepseek-v2-lite", "qwen3-30b-a3b", "gpt-oss-120b")
BOTH = (True, False)
HABITS: Mapping[str, object] = {
    "fused": [],
    "kernel_launch": "30 us",
    "module_call": "50 us",
    "elementwise_slowdown": 1.5,
    "wgrad_overlaps_tp": False,
    "bucket": "200 MB",
    "step_overhead": "50 ms",
    "recompute_stops_early": True,
    "casts_every_pass": True,
    "sorts_copies": True,
    "repeats_key_values": True,
    "cp_gathers_in_turns": True,
    "loss_metrics": 2,
    "tp_reduce_pieces": 2,
    "keeps_gathered_input": True,
    "unshard_copies": True,
    "loss_in_place": False,
    "gathers_logits": True,
    "holds_last_output": True,
    "copies_attention_output": True,
    "separate_projections": True,
    "gate_apart": True,
    "sums_whole_gradients": True,
    "whole_messages": True,
    "broadcasts_weights": True,
    "gathers_tensor_by_tensor": True,
    "blocks_launches": True,
}
OWN_GPU: Mapping[str, object] = {
    "matrix_speed": 0.8,
    "multiprocessors": 100,
    "speed_spread": 0.05,
    "power": {"headroom": 0.05, "idle": 0.2, "memory": 0.1},
    "collectives": {"ring_fraction": 0.7, "reduction_fraction": 0.6, "exchange_fraction": 0.6},
    "scale_up": {"bandwidth": "200 GB/s", "domain": 4, "latency": "3 us"},
    "memory": {"capacity": "40 GB", "bandwidth": "2 TB/s"},
}

Theme = tuple[str, tuple[object, ...]]
"""A setting, or a word for a group of settings (``@...``), and the values that candidates take in turn."""
THEMES: tuple[Theme, ...] = (
    ("@gpu", GPUS),
    ("@gpu", USUAL_GPUS),
    ("@tpu", TPUS),
    ("@slices", TPUS),
    ("@pools", (2, 3)),
    ("@network", NETWORKS),
    ("@network", ("tiers", "oversubscribed", "slow")),
    ("@model", ("dense", "experts", "latent", "mamba", "hybrid", *DENSE_LIKE, *EXPERTS_LIKE)),
    ("@vocabulary", ("vocab-1", "vocab-2", "interlaced")),
    ("@pools", (2, 3)),
    ("@model", ("tied", "predicting", "predicting-experts", "windows", "chunks", "parallel", "learned")),
    ("@schedule", (*ONE_CHUNK, *TWO_CHUNKS, *MANY_CHUNKS)),
    ("@schedule", ("custom-1", "custom-2")),
    ("@vocabulary", ("vocab-1", "vocab-2", "interlaced")),
    ("@recompute", RECOMPUTED),
    ("@recompute_full", ("uniform", "block", "every")),
    ("@offload", OFFLOADED),
    ("@offload", ("all", "all")),
    ("@graphs", GRAPHS),
    ("@cp_comm", ("all_gather", "ring", "all_to_all", "hierarchical")),
    ("@experts", DISPATCHERS),
    ("@pairs", DISPATCHERS),
    ("parallelism.sharding", SHARDINGS),
    ("@replicas", ("shard_size", "shard_replicas")),
    ("@low_precision", PRECISIONS),
    ("training.precision", PRECISIONS),
    ("software", STACKS),
    ("@habit", tuple(HABITS)),
    ("@own_gpu", tuple(OWN_GPU)),
    ("training.offload.optimizer", ("stream", "cpu")),
    ("parallelism.placement", PLACEMENTS),
    ("parallelism.layers", ("lighter-ends", "balanced")),
    ("training.mean_document_length", (300.0, 1000.0)),
    ("training.loss_chunks", (2, 4)),
    ("training.post_validation", BOTH),
    ("training.attention", ("unfused", "flash1", "flash2", "flash3", "cudnn")),
    ("training.overlap.tp", BOTH),
    ("simulation.engine", ("compiled", "event")),
    ("parallelism.reshard_after_forward", BOTH),
)
LATE = ("@recompute", "@recompute_full", "@offload", "@low_precision")
"""Groups of settings that go with most other themes."""
NAMED = (
    *("cluster.gpu", "cluster.network", "software", "parallelism.schedule", "parallelism.sharding"),
    *("parallelism.vocabulary", "parallelism.layers", "parallelism.cp_comm", "parallelism.cp_balance"),
    *("parallelism.sequence_parallel", "parallelism.reshard_after_forward", "parallelism.etp"),
    *("parallelism.reduce_every_microbatch", "parallelism.prefetch", "parallelism.placement"),
    *("training.precision", "training.master_dtype", "training.moment_dtype", "training.recompute"),
    *("training.recompute_method", "training.distribute_saved_activations", "training.grad_dtype"),
    *("training.reduce_dtype", "training.param_dtype", "training.attention", "training.post_validation"),
    *("training.offload.optimizer", "training.offload.optimizer_overlap", "training.low_precision_params"),
    *("training.experts.dispatcher", "training.experts.dispatch_dtype", "training.experts.load_imbalance"),
    *("training.experts.pad_to_capacity", "training.experts.grouped_gemm", "simulation.engine"),
    *(f"training.overlap.{name}" for name in ("grad_reduce", "param_gather", "p2p", "tp", "ep")),
    *("training.overlap.shared_experts", "model.like", "parallelism.vpp"),
)
"""Settings whose every value is a feature; of others, only that they are given."""
DEGREES = frozenset(f"parallelism.{name}" for name in ("tp", "pp", "cp", "ep"))
IN_LISTS = ("training.recompute_modules", "training.offload.activations", "training.cuda_graphs")
ENOUGH = 5
RARE = {
    "cluster.gpu=": 1,
    "cluster.gpu.": 1,
    "cluster.network=": 1,
    "cluster.network.": 2,
    "software.": 1,
    "model.like=": 1,
    "parallelism.placement=": 2,
}
"""Of these, more values than scenarios: so many of each are enough."""


def put(document: Document, path: str, value: object) -> None:
    """Set a value at a dotted path."""
    *above, last = path.split(".")
    for part in above:
        document = document.setdefault(part, {})
    document[last] = value


def settings(content: object, above: str = "") -> dict[str, object]:
    """Return the values of a document by dotted path."""
    if not isinstance(content, Mapping):
        return {above: content}
    parts = (settings(value, f"{above}.{key}" if above else str(key)) for key, value in content.items())
    return {path: value for part in parts for path, value in part.items()}


def features(document: Document, warnings: tuple[str, ...] = ()) -> frozenset[str]:
    """Return what a document uses, but for settings that a warning calls without effect."""
    names = set()
    for path, value in settings(document).items():
        if any(text.startswith(path) and "no effect" in text for text in warnings) or path == "name":
            continue
        if path in DEGREES and isinstance(value, int) and value < 2:  # not parallel
            continue
        if path == "parallelism.layers" and isinstance(value, list):
            names.add("parallelism.layers=list")
        elif path == "cluster.pools":
            names.add(f"cluster.pools of {len(list(value))}")  # type: ignore[call-overload]
        elif path in IN_LISTS and isinstance(value, list):
            names |= {f"{path}={item}" for item in value}
        elif path in NAMED or path in IN_LISTS:
            shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
            names.add(f"{path}={shown}")
        else:
            names.add(path)
    return frozenset(names)


def wanted(feature: str) -> int:
    """Return how many scenarios should use a feature."""
    return next((number for start, number in RARE.items() if feature.startswith(start)), ENOUGH)


def draw(seed: int, number: int, candidates: int, uses: Uses) -> list[Entry]:
    """Draw entries with documents that load and simulate, every feature in several of them.

    Args:
        seed: Of all random choices.
        number: Entries to return.
        candidates: Documents to try.
        uses: Tells the features of a candidate, or None where it does not load or takes too long.
    """
    chance = random.Random(seed)
    pool: list[tuple[Entry, frozenset[str]]] = []
    for index in range(candidates):
        entry = candidate(chance, *_theme(index))
        names = uses(entry)
        if names is not None:
            pool.append((entry, names))
    chosen: list[tuple[Entry, frozenset[str]]] = []
    counts: Counter[str] = Counter()

    def worth(names: frozenset[str]) -> int:
        """Return by how much one more such entry lessens the sum of squares of what is lacking."""
        return sum(2 * (wanted(name) - counts[name]) - 1 for name in names if counts[name] < wanted(name))

    def loss(names: frozenset[str]) -> int:
        return sum(2 * (wanted(name) - counts[name]) + 1 for name in names if counts[name] <= wanted(name))

    def take_best() -> int:
        best = max(range(len(pool)), key=lambda index: worth(pool[index][1]))
        gain = worth(pool[best][1])
        chosen.append(pool.pop(best))
        counts.update(chosen[-1][1])
        return gain

    for _ in range(number):
        take_best()
    gained = 1
    while gained > 0:  # exchange the entry that is missed least, as long as another brings more
        losses = [loss(names) for _, names in chosen]
        least = min(range(number), key=losses.__getitem__)
        counts.subtract(chosen[least][1])
        pool.append(chosen.pop(least))
        gained = take_best() - losses[least]
    entries = [entry for entry, _ in chosen]
    for index, entry in enumerate(entries):
        entry["document"]["name"] = f"golden {index:03d}"
    return entries


def _theme(index: int) -> tuple[str, object]:
    path, values = THEMES[index % len(THEMES)]
    return path, values[index // len(THEMES) % len(values)]


def candidate(chance: random.Random, theme: str, value: Any) -> Entry:  # noqa: ANN401
    """Return a random entry that has what the theme asks for; it need not load."""
    pick, likely = chance.choice, lambda share: chance.random() < share
    document: Document = {}
    files: dict[str, list[str]] = {}
    on_tpu = theme in {"@tpu", "@slices"}
    model = _model_kind(chance, theme, value)
    document["model"] = _model(chance, model)
    has_experts = "experts" in document["model"] or model in EXPERTS_LIKE
    tp, cp = pick([1, 1, 2, 4, 8]), pick([1, 1, 1, 1, 2, 4])
    pp, dp = pick([1, 2, 2, 4, 4, 8]), pick([1, 2, 2, 4, 4, 8, 16])
    if theme == "@cp_comm":
        cp = pick([2, 4, 8])
    if theme in {"parallelism.sharding", "@replicas", "parallelism.reshard_after_forward"}:
        dp, pp = pick([4, 8, 16]), pick([1, 1, 2])
    if theme in {"@schedule", "@vocabulary", "@pairs", "parallelism.layers", "training.post_validation"}:
        pp = pick([2, 4, 4, 8])
    if theme == "training.overlap.tp":
        tp = pick([2, 4, 8])
    if on_tpu:
        tp, pp, cp, dp = pick([1, 1, 4]), 1, 1, pick([16, 64, 128])
    if theme == "@pools":
        pp = value * pick([1, 2])
    degrees: Document = {"tp": tp, "pp": pp, "cp": cp}
    document["parallelism"] = degrees
    schedule = value if theme == "@schedule" else _usual_schedule(chance, theme, pp)
    microbatches = pick([1, 2, 3, 4, 5, 6, 8])
    if pp > 1:
        microbatches = _pipeline(chance, document, files, str(schedule), pp, dp)
    if has_experts:
        put(document, "parallelism.ep", pick([1, 2, 2, 4, 4, 8]))
        if likely(0.35):
            put(document, "parallelism.etp", pick([1, 1, 2]))
    _cluster(chance, document, theme, value, tp * cp * dp * pp)
    mbs = pick([1, 1, 1, 2, 4])
    put(document, "training.seq_length", pick([1024, 2048, 4096, 4096, 8192]))
    put(document, "training.micro_batch_size", mbs)
    put(document, "training.global_batch_size", mbs * dp * microbatches)
    document["software"] = pick(["megatron-core", "megatron-core", "torchtitan", "nemo", *STACKS])
    if on_tpu:
        document["software"] = "maxtext"
    put(document, "parallelism.sharding", pick(["zero1", "zero1", *SHARDINGS]))
    if on_tpu:
        put(document, "parallelism.sharding", pick(["full_shard", "fsdp", "zero1"]))
    _usual_options(chance, document, has_experts=has_experts)
    _of_theme(chance, document, theme, value, dp)
    if not on_tpu and theme != "@pools":
        late = [other for other in THEMES if not other[0].startswith("@") or other[0] in LATE]
        for path, values in chance.sample(late, pick([0, 1, 1, 2])):
            if path != theme:
                _of_theme(chance, document, path, pick(values), dp)
    entry: Entry = {"document": document}
    return entry | ({"files": files} if files else {})


def _usual_options(chance: random.Random, document: Document, *, has_experts: bool) -> None:
    """Set a few of the settings that go with nearly everything."""
    tp, pp, cp = (document["parallelism"][name] for name in ("tp", "pp", "cp"))
    is_sharded = document["parallelism"]["sharding"] != "none"
    flags = ("grad_reduce", "param_gather", *(["p2p"] if pp > 1 else []), *(["tp"] if tp > 1 else []))
    options: list[tuple[float, str, tuple[object, ...]]] = [
        *((0.2, f"training.overlap.{name}", BOTH) for name in flags),
        (0.3, "training.recompute", ("none", "selective", "full")),
        (0.15, "training.precision", ("bf16", *PRECISIONS)),
        (0.08, "training.grad_dtype", ("fp32", "bf16")),
        (0.05, "training.reduce_dtype", ("fp32", "bf16")),
        (0.05, "training.param_dtype", ("fp32", "bf16")),
        (0.06, "training.master_dtype", ("fp32", "bf16", "fp16")),
        (0.06, "training.moment_dtype", ("fp32", "bf16", "fp16", "fp8")),
        (0.06, "training.loss_chunks", (2, 4)),
        (0.05, "training.mean_document_length", (300.0, 1000.0)),
        (0.08, "training.attention", ("unfused", "flash1", "flash2", "flash3", "cudnn")),
        (0.06, "training.tokens", ("1T",)),
        (0.06, "training.offload.activations", ("all",)),
        (0.04, "training.offload.optimizer", ("stream", "cpu")),
        (0.12, "simulation.engine", ("compiled", "event")),
        (0.08, "parallelism.placement", PLACEMENTS),
        (0.08, "parallelism.reduce_every_microbatch", BOTH),
        (0.3 if tp > 1 else 0.0, "parallelism.sequence_parallel", BOTH),
        (0.3 if is_sharded else 0.0, "parallelism.prefetch", (0, 2)),
        (0.15 if is_sharded else 0.0, "parallelism.reshard_after_forward", BOTH),
        (0.1 if is_sharded else 0.0, "parallelism.shard_size", (1, 2, 4)),
        (0.06 if is_sharded else 0.0, "parallelism.shard_replicas", (2,)),
        (0.1 if pp > 1 else 0.0, "training.post_validation", BOTH),
        (0.4 if cp > 1 else 0.0, "parallelism.cp_comm", ("all_gather", "ring", "all_to_all")),
        (0.3 if cp > 1 else 0.0, "parallelism.cp_balance", BOTH),
    ]
    if has_experts:
        options += [
            (0.5, "training.experts.dispatcher", DISPATCHERS),
            (0.15, "training.experts.dispatch_dtype", ("fp8",)),
            (0.3, "training.experts.load_imbalance", ("balanced", "learned", 1.5)),
            (0.3, "training.experts.capacity_factor", (1.0, 1.25)),
            (0.15, "training.experts.pad_to_capacity", BOTH),
            (0.2, "training.experts.grouped_gemm", BOTH),
            (0.2, "training.overlap.shared_experts", BOTH),
        ]
    for share, path, values in options:
        if chance.random() < share:
            value = chance.choice(values)
            put(document, path, list(value) if isinstance(value, tuple) else value)


def _of_theme(chance: random.Random, document: Document, theme: str, value: Any, dp: int) -> None:  # noqa: ANN401
    """Set what the theme asks for, over whatever stands there."""
    pick = chance.choice
    if not theme.startswith("@"):
        put(document, theme, list(value) if isinstance(value, tuple) else value)
        if theme == "training.offload.optimizer":
            put(document, "training.offload.optimizer_fraction", pick([0.5, 1.0]))
            put(document, "training.offload.optimizer_overlap", pick(BOTH))
    changes: dict[str, dict[str, object]] = {
        "@vocabulary": {"parallelism.vocabulary": value},
        "@recompute": {"training.recompute": "selective", "training.recompute_modules": [value]},
        "@recompute_full": {
            "training.recompute": "full",
            "training.recompute_method": value,
            "training.recompute_num_layers": pick([1, 2]),
            "training.distribute_saved_activations": pick(BOTH),
        },
        "@offload": {
            "training.offload.activations": "all" if value == "all" else [value],
            "training.offload.num_layers": pick([1, 2]),
        },
        "@graphs": {"training.cuda_graphs": [value]},
        "@cp_comm": {
            "parallelism.cp_comm": value,
            **({"parallelism.cp_heads": 2} if value == "hierarchical" else {}),
            "training.seq_length": pick([8192, 16384, 32768]),
        },
        "@experts": {"training.experts.dispatcher": value, "parallelism.ep": pick([2, 4, 8])},
        "@pairs": {
            "training.experts.dispatcher": value,
            "parallelism.ep": pick([2, 4, 8]),
            "training.overlap.ep": True,
        },
        "@replicas": {
            "parallelism.sharding": pick(SHARDINGS[1:]),
            f"parallelism.{value}": pick([2, dp // 2]),
        },
        "@low_precision": {
            "training.precision": value,
            "training.low_precision_params": pick(BOTH),
            "training.bf16_layers_at_start": pick([0, 1]),
            "training.bf16_layers_at_end": pick([1, 2]),
            "cluster.gpu": pick(["h100-80gb-sxm", "b200", "gb200", "b300", "mi355x"]),
        },
        "@slices": {"cluster.num_slices": pick([2, 4])},
    }
    if theme == "@habit":
        document["software"] = {"like": document["software"], value: HABITS[value]}
    if theme == "@own_gpu":
        document["cluster"]["gpu"] = {"like": pick(USUAL_GPUS), value: OWN_GPU[value]}
    if str(document["cluster"].get("gpu")).startswith("v100"):
        document["training"]["precision"] = "fp16"
    for path, setting in changes.get(theme, {}).items():
        put(document, path, setting)
    if theme == "@slices" and pick(BOTH):
        put(document, "parallelism.shard_replicas", document["cluster"]["num_slices"])


def _cluster(chance: random.Random, document: Document, theme: str, value: Any, gpus: int) -> None:  # noqa: ANN401
    pick, likely = chance.choice, lambda share: chance.random() < share
    cluster: Document = {}
    document["cluster"] = cluster
    if theme == "@pools":
        cluster["pools"] = [{"gpu": pick(USUAL_GPUS), "gpus": gpus // value} for _ in range(value)]
        if pick(BOTH):
            cluster["pools"][0]["network"] = pick(["roce-400g", "fat-tree-200g"])
        return
    cluster["gpu"] = (
        value if theme in {"@gpu", "@tpu", "@slices"} else pick([*USUAL_GPUS, *USUAL_GPUS, *GPUS])
    )
    cluster["gpus"] = gpus
    made: dict[str, Document] = {
        "tiers": {
            "bandwidth_per_gpu": "400 Gb/s",
            "tiers": [
                {"name": "leaf", "gpus": 16, "oversubscription": 1, "latency": "2 us"},
                {"name": "spine", "gpus": 0, "oversubscription": 3, "latency": "9 us"},
            ],
        },
        "oversubscribed": {"bandwidth_per_gpu": "400 Gb/s", "oversubscription": 4},
        "slow": {"bandwidth_per_gpu": "20 Gb/s", "latency": "30 us", "efficiency": 0.7},
    }
    if theme == "@network":
        cluster["network"] = made.get(value, value)
    elif theme not in {"@tpu", "@slices"} and likely(0.4):
        cluster["network"] = pick(NETWORKS)
    if theme not in {"@tpu", "@slices"}:
        if likely(0.1):
            cluster["scale_up_domain"] = pick([2, 4])
        if likely(0.06):
            cluster["gpus_per_node"] = 4
    if likely(0.08):
        cluster["price_per_gpu_hour"] = "2.50 $/h"
        put(document, "training.tokens", "500B")


def _model_kind(chance: random.Random, theme: str, value: object) -> str:
    if theme == "@model":
        return str(value)
    if theme in {"@experts", "@pairs"} or value in {"moe", "moe_act", "expert_fc1", "moe_router"}:
        return chance.choice(["experts", "experts", "latent", "mixtral-8x7b", "deepseek-v2-lite"])
    if value in {"shared_experts", "mla_up_proj", "moe_preprocess"}:
        return "latent"
    if value == "mamba":
        return chance.choice(["mamba", "hybrid"])
    if theme == "@vocabulary":
        return chance.choice(["dense", "llama3-8b", "experts"])
    if theme == "@pools":
        return chance.choice(["dense", "experts", "llama3-8b"])
    kinds = ["dense"] * 5 + ["experts"] * 3 + ["tied", "latent", "mamba", "hybrid", "predicting", "parallel"]
    return chance.choice([*kinds, *DENSE_LIKE, *EXPERTS_LIKE])


def _model(chance: random.Random, kind: str) -> Document:
    pick = chance.choice
    layers = pick([8, 8, 12, 16])
    if kind in DENSE_LIKE or kind in EXPERTS_LIKE:
        return {"like": kind, "num_hidden_layers": layers}
    hidden = pick([1024, 2048, 2048, 4096, 5120])
    model: Document = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": hidden // 128 * (2 if hidden < 2048 else 1),
        "intermediate_size": pick([3, 4]) * hidden,
        "vocab_size": pick([32000, 50257, 128256]),
    }
    experts: Document = {
        "num_experts": pick([8, 16, 32]),
        "num_experts_per_tok": 2,
        "moe_intermediate_size": pick([1024, 2048]),
    }
    mamba = {"num_heads": hidden // 32, "head_dim": 64, "state_size": 128, "n_groups": 8}
    if kind in {"experts", "latent", "hybrid", "predicting-experts"}:
        model["experts"] = experts
    if kind == "experts" and pick(BOTH):
        model["experts"] |= {pick(["first_k_dense_replace", "num_shared_experts", "moe_layer_step"]): 2}
    changes: dict[str, Document] = {
        "latent": {
            "latent_attention": {
                "q_lora_rank": 768,
                "kv_lora_rank": 512,
                "qk_nope_head_dim": 128,
                "qk_rope_head_dim": 64,
                "v_head_dim": 128,
            }
        },
        "mamba": {"layer_pattern": pick(["M-M*", "MM*-"]) * (layers // 4), "mamba": mamba},
        "hybrid": {"layer_pattern": pick(["ME*E", "MEM*"]) * (layers // 4), "mamba": mamba},
        "tied": {"tie_word_embeddings": True, "num_key_value_heads": 8},
        "predicting": {"num_nextn_predict_layers": pick([1, 2])},
        "predicting-experts": {"num_nextn_predict_layers": 1},
        "windows": {"sliding_window": 512, "sliding_window_every": pick([1, 2])},
        "chunks": {"attention_chunk_size": 1024},
        "parallel": {"parallel_blocks": True, "linear_bias": True, "qk_norm": pick(BOTH)},
        "learned": {
            "positional": "learned",
            "max_position_embeddings": 8192,
            "norm": "layernorm",
            "gated": False,
            "residual_dropout": True,
        },
    }
    model |= changes.get(kind, {})
    if kind == "latent":
        model["experts"] |= {"num_shared_experts": 1, "first_k_dense_replace": pick([0, 1])}
    if kind == "hybrid" and pick(BOTH):
        model["num_nextn_predict_layers"] = 1
    return model


def _usual_schedule(chance: random.Random, theme: str, pp: int) -> str:
    if theme == "@vocabulary":
        return chance.choice(["1f1b", "1f1b", "1f1b", "gpipe", "zb-h1", "zb-v", "zb-2p", "v-half"])
    if theme == "@pairs":
        return chance.choice(["interleaved", "interleaved", "dualpipe", "dualpipe-v"])
    names = ["1f1b"] * 4 + ["interleaved"] * 3
    return chance.choice([*names, *ONE_CHUNK, *MANY_CHUNKS, *(TWO_CHUNKS if pp > 1 else ())])


def _pipeline(
    chance: random.Random,
    document: Document,
    files: dict[str, list[str]],
    schedule: str,
    pp: int,
    dp: int,
) -> int:
    """Set the schedule with its chunks and layers; return the number of micro-batches."""
    pick = chance.choice
    degrees = document["parallelism"]
    microbatches = pick([pp, pp + 1, 2 * pp, 2 * pp + 1, 3 * pp])
    vpp = 1
    if schedule in TWO_CHUNKS:
        vpp = 2
    elif schedule in MANY_CHUNKS:
        vpp = pick([2, 2, 4]) if pp < 8 else 2
    if schedule in {"interleaved", "interleaved-zb"}:
        microbatches = pp * pick([1, 2, 3])
        if pick([True, False, False]):
            degrees["microbatch_group_size"] = microbatches
    if schedule.startswith("dualpipe"):
        microbatches = pp * pick([2, 3, 4])
    if schedule.startswith("custom"):
        vpp = int(schedule[-1])
        name = f"{schedule}.csv"
        files[name] = custom_rows(chance, pp, vpp, microbatches)
        degrees["schedule"] = {"csv": name}
    elif schedule != "1f1b" or pick(BOTH):
        degrees["schedule"] = schedule
    if vpp > 1:
        degrees["vpp"] = vpp
    layers, stages = document["model"].get("num_hidden_layers", 0), pp * vpp
    if layers % stages or chance.random() < 0.15:
        even, rest = divmod(layers, stages)
        split = [even + (stage < rest) for stage in range(stages)]
        chance.shuffle(split)
        degrees["layers"] = split
    if dp and chance.random() < 0.2:
        degrees["layers"] = pick(["lighter-ends", "balanced"])
    return microbatches


def custom_rows(chance: random.Random, pp: int, vpp: int, microbatches: int) -> list[str]:
    """Return a schedule that has no name, in PyTorch's form: weight gradients wait for a random while."""
    rows = []
    for rank in range(pp):
        if vpp == 1:
            row = _one_f_one_b(pp, rank, microbatches)
        else:
            stages = [rank + pp * chunk for chunk in range(vpp)]
            row = [("F", stage, batch) for stage in stages for batch in range(microbatches)]
            row += [("B", stage, batch) for stage in reversed(stages) for batch in range(microbatches)]
        entries: list[str] = []
        waiting: list[tuple[int, str]] = []
        for position, (kind, stage, batch) in enumerate(row):
            due = [text for when, text in waiting if when <= position]
            waiting = [(when, text) for when, text in waiting if when > position]
            entries += due
            if kind == "B" and chance.random() < 0.6:
                entries.append(f"{stage}I{batch}")
                waiting.append((position + chance.randint(1, 4), f"{stage}W{batch}"))
            else:
                entries.append(f"{stage}{kind}{batch}")
        rows.append(",".join(entries + [text for _, text in waiting]))
    return rows


def _one_f_one_b(pp: int, rank: int, microbatches: int) -> list[tuple[str, int, int]]:
    warm = min(pp - rank - 1, microbatches)
    row = [("F", rank, batch) for batch in range(warm)]
    for batch in range(warm, microbatches):
        row += [("F", rank, batch), ("B", rank, batch - warm)]
    return row + [("B", rank, batch) for batch in range(microbatches - warm, microbatches)]
