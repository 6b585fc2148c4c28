"""Readers of notes: the layout of a run, and of its model what the row schema has no word for."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, cast

from simulator import catalogue
from simulator.errors import CatalogueError
from simulator.validation.settle.facts import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.validation.rows import Row
    from simulator.validation.settle.facts import Facts


_DIFFERS = re.compile(r"closest perf recipe (\S+) @ (\S+) differs from the table in (\{[^}]*\})")
_DEGREES = {
    "tensor_model_parallel_size": "tp",
    "pipeline_model_parallel_size": "pp",
    "virtual_pipeline_model_parallel_size": "vpp",
    "context_parallel_size": "cp",
    "expert_model_parallel_size": "ep",
}
_OTHER_RUN = {"num_gpus", "use_megatron_fsdp"}
"""Where recipe and table differ in these, the recipe is of another run."""


def recipe_layout(facts: Facts) -> Keys:
    """Read the layout of the release's recipe, where the notes say that the published table differs from it.

    The benchmark scripts read recipes; tables of them are written by hand, and lag behind: the next release's
    table shows the recipe's layout and the same speed. Where the global batch differs, too, only the degrees
    of parallelism are taken.
    """
    match = facts.notes.search(_DIFFERS)
    if match is None:
        return {}
    recipe = cast("Mapping[str, int | None]", ast.literal_eval(match[3]))
    if _OTHER_RUN & recipe.keys():
        return {}
    keys: Keys = {
        f"parallelism.{_DEGREES[key]}": value or 1 for key, value in recipe.items() if key in _DEGREES
    }
    if keys:
        row = facts.row.parallel
        sizes = {
            axis: int(str(keys.get(f"parallelism.{axis}", getattr(row, axis)))) for axis in ("tp", "pp", "cp")
        }
        keys["parallelism.dp"] = max(1, facts.row.gpus // (sizes["tp"] * sizes["pp"] * sizes["cp"]))
        if sizes["pp"] == 1:
            keys["parallelism.schedule"] = "1f1b"
        elif "parallelism.vpp" in keys:
            keys["parallelism.schedule"] = "interleaved" if keys["parallelism.vpp"] != 1 else "1f1b"
    if "micro_batch_size" in recipe and "global_batch_size" not in recipe:
        keys["training.micro_batch_size"] = recipe["micro_batch_size"]
    return keys


_LAYOUT = re.compile(r"\blayout (E[Etm|()*\dL]*)")
_REPEATED = re.compile(r"\(([^()]*)\)\*(\d+)|([A-Za-z])\*(\d+)")


def stage_layers(facts: Facts) -> Keys:
    """Read the layers of each stage where notes quote Megatron-Core's pipeline layout.

    Its letters are embedding E, transformer layer t, multi-token prediction m and loss L
    (``pipeline-model-parallel-layout``).
    """
    match = facts.notes.search(_LAYOUT)
    if match is None or facts.degrees is None:
        return {}
    layers = layers_of_layout(match[1])
    degrees, of_model = facts.degrees, facts.row.arch.layers
    if len(layers) != degrees.pp * degrees.vpp or sum(layers) != of_model:
        facts.impossible.append(f"layout of {len(layers)} stages with {sum(layers)} layers is not the row's")
        return {}
    return {"parallelism.layers": list(layers)}


def layers_of_layout(layout: str) -> tuple[int, ...]:
    """Return the layers of each stage of a pipeline layout.

    >>> layers_of_layout("Et*3|(tt|)*2mL")
    (3, 2, 2, 0)
    """
    while (again := _REPEATED.sub(lambda run: (run[1] or run[3]) * int(run[2] or run[4]), layout)) != layout:
        layout = again
    return tuple(stage.count("t") for stage in layout.split("|"))


_GROUP = re.compile(
    r"FSDP (?:shard group (\d+)|over \d+ nodes = (\d+) GPUs)"
    r"|\bshard(?:ed|ing)?(?: group| groups)?(?: of| over| across| within)(?: groups of)? (\d+) (?:GPUs|ranks)"
    r"|\b(?:HSDP|hybrid)\W+(?:with )?(\d+)[ -](?:way|GPU) shard",
    re.IGNORECASE,
)


def shard_group(facts: Facts) -> Keys:
    """Read how many GPUs the shard group of hybrid FSDP has."""
    match = facts.notes.search(_GROUP)
    degrees = facts.degrees
    if (
        match is None
        or degrees is None
        or facts.row.parallel.fsdp != "hybrid"
        or degrees.dp * degrees.cp == 1
    ):
        return {}
    gpus = int(next(filter(None, match.groups())))
    return {"parallelism.shard_size": max(1, gpus // (degrees.tp * degrees.cp))}


_LATENT = re.compile(
    r"MLA \(?q_lora (\d+),? kv_lora (\d+),? (?:qk_)?nope (\d+),? (?:qk_)?rope (\d+),? v(?:_head)? (\d+)"
)
_LATENT_FIELDS = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_PREDICTIONS = re.compile(r"\bMTP (\d+)\b")
_NO_PREDICTION = re.compile(r"\bNo MTP\b|\bw/o MTP\b")
_PARALLEL_BLOCKS = re.compile(r"parallel transformer block|cumulative ablation step [2-8]:")
"""Attention and feed-forward read the same input: MegaScale, in the table of its parts (arXiv:2402.15627,
Table 3) from the second row on."""


def model(facts: Facts) -> Keys:
    """Read what the row schema has no word for: latent attention, prediction layers, parallel blocks."""
    notes, keys = facts.notes, Keys()
    latent, predictions = notes.search(_LATENT), notes.search(_PREDICTIONS)
    if not _in_catalogue(facts.row):
        if latent is not None:
            sizes = zip(_LATENT_FIELDS, map(int, latent.groups()), strict=True)
            keys |= {f"model.latent_attention.{name}": size for name, size in sizes}
            keys["model.head_dim"] = int(latent[5])
        if predictions is not None:
            keys["model.num_nextn_predict_layers"] = int(predictions[1])
    if notes.search(_NO_PREDICTION):
        keys["model.num_nextn_predict_layers"] = 0
    if notes.search(_PARALLEL_BLOCKS):
        keys["model.parallel_blocks"] = True
    return keys


def _in_catalogue(row: Row) -> bool:
    try:
        return row.arch.hidden in {None, catalogue.model(row.model).hidden_size}
    except CatalogueError:
        return False


_VPP = re.compile(
    r"\b(?:VPP|virtual pipeline(?: (?:size|stages|parallel size|parallelism))?)\s*(?:of|=|:)?\s*(\d+)\b"
    r"|\b(\d+) (?:virtual stages|model chunks) (?:per|on each) (?:rank|GPU|stage)",
    re.IGNORECASE,
)
_SEQUENCE_PARALLEL = re.compile(r"\b(?:with )?sequence[ -]parallel(?:ism)?\b|\bSP on\b", re.IGNORECASE)
_NO_SEQUENCE_PARALLEL = re.compile(
    r"\b(?:no|without) sequence[ -]parallel|\bsequence[ -]parallel(?:ism)? (?:is )?(?:off|disabled|false)",
    re.IGNORECASE,
)
_MICRO_BATCH = re.compile(
    r"\b(?:micro[- _]?batch(?:[ _]size)?|MBS)\s*(?:of|=|:)?\s*(\d+)\b"
    r"|\b(?:per[- ](?:device|gpu) batch(?: size)?|batch(?: size)? per (?:device|gpu))\s*(?:of|=|:)?\s*(\d+)\b"
    r"|\b(\d+) (?:sequences?|samples?) (?:per|in (?:a|each)) micro-?batch\b",
    re.IGNORECASE,
)
_ACCUMULATION = re.compile(
    r"\b(?:gradient|grad)[ -]accumulation(?: steps)?\s*(?:of|=|:|over)?\s*(\d+)\b"
    r"|\b(\d+) (?:gradient|grad)[ -]accumulation steps"
    r"|\b(?:accumulates )?(\d+) micro-?batches (?:per|a|in each) step|\baccumulates (\d+) micro-?batches"
    r"|\bGAS\s*(?:of|=|:)?\s*(\d+)\b",
    re.IGNORECASE,
)


def batch(facts: Facts) -> Keys:
    """Read virtual stages, sequence parallelism and micro-batches where the row's own fields are empty."""
    row, notes, keys = facts.row, facts.notes, Keys()
    chunks = notes.affirmed(_VPP)
    if chunks is not None and row.parallel.vpp is None and row.parallel.pp > 1:
        keys["parallelism.vpp"] = int(chunks[1] or chunks[2])
    divides = notes.says(_SEQUENCE_PARALLEL, _NO_SEQUENCE_PARALLEL)
    if divides is not None and row.parallel.sequence_parallel is None and row.parallel.tp > 1:
        keys["parallelism.sequence_parallel"] = divides
    micro_batch, steps = notes.affirmed(_MICRO_BATCH), notes.affirmed(_ACCUMULATION)
    size = row.micro_batch
    if micro_batch is not None and size is None:
        size = keys["training.micro_batch_size"] = int(next(filter(None, micro_batch.groups())))
    if steps is not None:
        keys |= _accumulated(row, size, int(next(filter(None, steps.groups()))))
    return keys


def _accumulated(row: Row, micro_batch: int | None, steps: int) -> Keys:
    """Return the batch size that follows from the other one and the micro-batches of a step."""
    parallel = row.parallel
    dp = parallel.dp or max(1, row.gpus // (parallel.tp * parallel.pp * parallel.cp))
    if row.global_batch is None and micro_batch is not None:
        return {"training.global_batch_size": micro_batch * dp * steps}
    if micro_batch is None and row.global_batch is not None and row.global_batch % (dp * steps) == 0:
        return {"training.micro_batch_size": row.global_batch // (dp * steps)}
    return {}


_BESIDE = r"(?:communication |comm(?:unication)?[ -]|user-?buffers? )?(?:is |are )?overlap(?:ped)?\b"
_REDUCTION = (
    r"\boverlap[_ -](?:the )?grad(?:ient)?s?[_ -]reduc\w+"
    r"|\bgrad(?:ient)?s?[ -](?:reduc\w+|all-?reduce|sync) (?:is |are )?overlap(?:ped)?\b"
)
_OVERLAPS = {
    "tp": (
        "training.overlap.tp",
        rf"\bub_tp_comm_overlap\b|\bTP[ -]{_BESIDE}|\basync(?:hronous)?[ -]?TP\b",
    ),
    "dp": ("training.overlap.grad_reduce", rf"\bDP[ -]{_BESIDE}|{_REDUCTION}"),
    "pp": ("training.overlap.p2p", rf"\boverlap[_ -]p2p\w*|\b(?:PP|P2P|pipeline p2p)[ -]{_BESIDE}"),
}
"""Setting and wordings of what runs beside computation, by axis."""


def overlaps(facts: Facts) -> Keys:
    """Read which communication runs beside computation, where the row's own fields are empty."""
    keys, degrees = Keys(), facts.degrees
    if degrees is None:
        return keys
    ranks = {"tp": degrees.tp, "dp": degrees.dp * degrees.cp, "pp": degrees.pp}
    for axis, (setting, wordings) in _OVERLAPS.items():
        says = facts.notes.says(re.compile(wordings, re.IGNORECASE))
        if says is not None and ranks[axis] > 1 and getattr(facts.row.overlap, axis) is None:
            keys[setting] = says
    return keys
