"""What the notes of a row say of its model's shape that the row schema has no word for."""

from __future__ import annotations

import re

_LATENT = re.compile(
    r"MLA \(?q_lora (\d+),? kv_lora (\d+),? (?:qk_)?nope (\d+),? (?:qk_)?rope (\d+),? v(?:_head)? (\d+)"
)
_PREDICTIONS = re.compile(r"\bMTP (\d+)\b")
_FIELDS = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def noted_shape(notes: str) -> dict[str, object]:
    """Return latent attention, the width of its heads, and prediction layers, in Hugging Face's words.

    >>> noted_shape("MLA q_lora 1536 kv_lora 512 nope 128 rope 64 v 128, 1 dense layer, MTP 1")["head_dim"]
    128
    >>> noted_shape("GQA")
    {}
    """
    document: dict[str, object] = {}
    latent, predictions = _LATENT.search(notes), _PREDICTIONS.search(notes)
    if latent is not None:
        document["latent_attention"] = dict(zip(_FIELDS, map(int, latent.groups()), strict=True))
        document["head_dim"] = int(latent[5])
    if predictions is not None:
        document["num_nextn_predict_layers"] = int(predictions[1])
    return document
