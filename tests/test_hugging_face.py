"""Hugging Face configurations as models of a scenario."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from scenario_documents import TEXT, content, put

from simulator import catalogue, files
from simulator.errors import ScenarioError

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
DEEPSEEK = LLAMA | {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "intermediate_size": 18432,
    "vocab_size": 129280,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "first_k_dense_replace": 3,
    "n_group": 8,
    "topk_group": 4,
    "moe_layer_freq": 1,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
}
MIXTRAL = LLAMA | {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
QWEN3 = LLAMA | {
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "intermediate_size": 12288,
    "vocab_size": 151936,
    "head_dim": 128,
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
}
GPT3 = {
    "model_type": "gpt2",
    "n_embd": 12288,
    "n_layer": 96,
    "n_head": 96,
    "n_positions": 2048,
    "vocab_size": 51200,
    "n_inner": None,
    "layer_norm_epsilon": 1e-5,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("llama3-8b", LLAMA),
        ("deepseek-v3", DEEPSEEK),
        ("mixtral-8x7b", MIXTRAL),
        ("qwen3-8b", QWEN3),
        ("gpt3-175b", GPT3),
        ("llama3-8b", {"model_type": "llava", "text_config": LLAMA}),
    ],
)
def test_a_config_json_gives_the_catalogue_s_parameters(
    name: str, config: dict[str, object], tmp_path: Path
) -> None:
    from simulator.scenario.parameters import ModelParameters

    (tmp_path / "config.json").write_text(json.dumps(config))
    model = files.read_config(tmp_path)
    ours, theirs = ModelParameters.of(catalogue.model(name)), ModelParameters.of(model)
    assert (theirs.total, theirs.active) == (ours.total, ours.active)
    (tmp_path / "s.yaml").write_text(TEXT + "\n")
    loaded = files.from_document(put(content(), "model", {"hf_config": str(tmp_path)}) | {"parallelism": {}})
    assert loaded.model == model
    assert files.from_document(loaded.document) == loaded


@pytest.mark.parametrize(
    ("keys", "windows"),
    [
        ({"sliding_window": 4096}, [4096] * 6),
        ({"sliding_window": 4096, "use_sliding_window": False}, [None] * 6),
        ({"sliding_window": 512, "sliding_window_pattern": 3}, [512, 512, None, 512, 512, None]),
        (
            {"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention"] * 3},
            [512, None] * 3,
        ),
        ({"sliding_window": 512, "layer_types": ["full_attention"] * 6}, [None] * 6),
    ],
)
def test_sliding_windows(keys: dict[str, object], windows: list[int | None], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"num_hidden_layers": 6} | keys))
    model = files.read_config(tmp_path)
    assert [model.window(layer) for layer in range(6)] == windows


def test_an_inline_model_in_hugging_face_s_words() -> None:
    flat = {key: value for key, value in DEEPSEEK.items() if key not in {"model_type", "rms_norm_eps"}}
    del flat["moe_layer_freq"], flat["num_key_value_heads"]
    result = files.from_document(
        put(content(), "model", flat | {"head_dim": 192}) | {"parallelism": {"ep": 64}}
    )
    expected = catalogue.model("deepseek-v3")
    assert result.model.experts == expected.experts
    assert result.model.latent_attention == expected.latent_attention
    with pytest.raises(ScenarioError, match=r"model\.experts\.num_experts: must be at least 1, got 0"):
        files.from_document(put(content(), "model", flat | {"n_routed_experts": 0}))
