"""``set:`` of a published row: settings in the words of scenario files, which win over everything else.

    set: {training.cuda_graphs: [attn], parallelism.etp: 1, software.fused: [norm]}

Paths may be nested mappings too, and keys other tools' spellings, as in scenario files. A setting whose
meaning is also that of a field of the row (degrees, batch, precision, ...) replaces the field before anything
is derived from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from simulator.documents import Document, canonical
from simulator.errors import RowError, ScenarioError
from simulator.files.overrides import unknown_setting
from simulator.files.scenario_file import ScenarioFile

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELD_OF: Mapping[str, tuple[str, ...]] = {
    **{f"parallelism.{axis}": ("parallel", axis) for axis in ("tp", "cp", "pp", "dp", "ep", "vpp")},
    "parallelism.sequence_parallel": ("parallel", "sequence_parallel"),
    "parallelism.schedule": ("schedule",),
    "training.micro_batch_size": ("micro_batch",),
    "training.global_batch_size": ("global_batch",),
    "training.seq_length": ("seq_len",),
    "training.precision": ("precision",),
    "training.recompute": ("recompute",),
    "training.attention": ("attention",),
    "cluster.gpu": ("gpu",),
    "cluster.gpus": ("gpus",),
    "cluster.gpus_per_node": ("gpus_per_node",),
    "cluster.scale_up_domain": ("nvlink_domain",),
    "cluster.num_slices": ("num_slices",),
    "model.num_hidden_layers": ("arch", "layers"),
    "model.hidden_size": ("arch", "hidden"),
    "model.num_attention_heads": ("arch", "heads"),
    "model.num_key_value_heads": ("arch", "kv_heads"),
    "model.intermediate_size": ("arch", "ffn"),
    "model.vocab_size": ("arch", "vocab"),
    "model.gated": ("arch", "gated"),
    "model.tie_word_embeddings": ("arch", "tied"),
    "model.positional": ("arch", "positional"),
}
"""The field of a row that means the same as a setting."""
_DIVIDES_RANKS = ("parallelism.tp", "parallelism.cp", "parallelism.pp")
_WHOLE = ("software", "cluster.gpu", "cluster.network", "model")
"""Settings that are a catalogue name or an inline entry as a whole."""


def flat_settings(settings: object) -> dict[str, object]:
    """Return the settings of a row by path, in the project's own spelling.

    Raises:
        RowError: It is no mapping, or names what is no setting; the text names each, and the nearest.

    >>> flat_settings({"tensor_model_parallel_size": 2})
    Traceback (most recent call last):
    ...
    simulator.errors.RowError: wrong set: 'tensor_model_parallel_size' is not a setting; did you mean ...
    >>> flat_settings({"parallelism": {"tensor_model_parallel_size": 2}, "training.cuda_graphs": ["attn"]})
    {'parallelism.tp': 2, 'training.cuda_graphs': ['attn']}
    """
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise RowError("wrong set: it is not a mapping of paths to values")
    nested: dict[str, object] = {}
    problems = []
    paths: set[str] = set()
    for path, value in _leaves(settings):
        why = f"{path!r} is given twice" if path in paths else unknown_setting(path)
        paths.add(path)
        if why is not None:
            problems.append(why)
        else:
            put(nested, path.split("."), value)
    if problems:
        raise RowError("wrong set: " + "; ".join(problems))
    try:
        content = canonical(Document(nested), ScenarioFile).data
    except ScenarioError as error:
        problems = [": ".join(filter(None, (item.path, item.message))) for item in error.problems]
        raise RowError("wrong set: " + "; ".join(problems)) from error
    return dict(_leaves(cast("Mapping[str, object]", content)))


def _leaves(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield paths and values; an inline entry that says what it is like stays whole."""
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not (path in _WHOLE and "like" in value):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def put(document: dict[str, object], keys: Sequence[str], value: object) -> None:
    """Put a value into nested mappings; where a catalogue name stands, it becomes an entry like that one."""
    key, *inner = keys
    if not inner:
        document[key] = value
        return
    below = document.get(key)
    if isinstance(below, str):
        below = {"like": below, "name": below}
    nested = dict(below) if isinstance(below, Mapping) else {}
    put(nested, inner, value)
    document[key] = nested


def over_fields(content: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a row with those replaced that its settings mean too."""
    fields: dict[str, object] = dict(content)
    if (
        not all(path not in settings for path in _DIVIDES_RANKS)
        and "parallelism.dp" not in settings
        and (isinstance(fields.get("parallel"), Mapping))
    ):
        put(fields, FIELD_OF["parallelism.dp"], None)
    for path, field in FIELD_OF.items():
        value = settings.get(path)
        if len(field) > 1 and not isinstance(fields.get(field[0]) or {}, Mapping):
            continue  # a malformed row, which its schema refuses
        if isinstance(value, bool | int | float | str) and value != "auto":
            put(fields, field, value)
    return fields


def over_document(document: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """Return a scenario document with settings laid over it."""
    laid: dict[str, object] = dict(document)
    for path, value in settings.items():
        put(laid, path.split("."), value)
    return laid
