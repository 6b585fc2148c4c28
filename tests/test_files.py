"""What a scenario file means: defaults, other spellings, overrides, bases, models and layers."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import catalogue, files
from simulator.documents import parse, read
from simulator.errors import ScenarioError, SimulatorError

if TYPE_CHECKING:
    from simulator.scenario import Scenario

SCENARIOS = Path(__file__).parents[1] / "scenarios"
TEXT = """
name: test
cluster:
  gpu: h100-80gb-sxm
  gpus: 256
  network: {type: fat-tree, bandwidth_per_gpu: 400 Gb/s, latency: 5 us}
  price_per_gpu_hour: 2.50 $/h
model: llama3-70b
parallelism: {tp: 4, pp: 4, vpp: 2, cp: 2, sharding: zero1, placement: [tp, cp, dp, pp]}
training:
  seq_length: 8192
  global_batch_size: 256
  tokens: 15T
  overlap: {tp: true}
sweep: {parameters: {cluster.gpus: [256, 512]}, published: [{x: 256, y: 430, source: nobody}]}
measured: {tflops_per_gpu: 400, source: nobody}
"""
SETTINGS = st.sampled_from(sorted(files.setting_paths()))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["auto", "none", "zero1", "8", "400 Gb/s", "h100", "full", "1e9 s", "", "even"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def content() -> dict[str, object]:
    data = parse(TEXT).data
    assert isinstance(data, dict)
    return copy.deepcopy(data)


def scenario(*overrides: str) -> Scenario:
    return files.from_document(content(), overrides=overrides)


def put(data: dict[str, object], path: str, value: object) -> dict[str, object]:
    inner: object = data
    *parents, last = path.split(".")
    for part in parents:
        assert isinstance(inner, dict)
        if not isinstance(inner.get(part), dict):
            inner[part] = {}
        inner = inner[part]
    assert isinstance(inner, dict)
    inner[last] = value
    return data


def test_defaults() -> None:
    result = files.from_document(
        {
            "cluster": {"gpu": "h100-80gb-sxm", "gpus": 16},
            "model": "llama3-8b",
            "training": {"seq_length": 8192, "global_batch_size": 64},
        },
        name="small",
    )
    degrees, stack = result.parallelism, catalogue.software("megatron-core")
    assert (degrees.tp, degrees.pp, degrees.vpp, degrees.cp, degrees.ep, degrees.dp) == (1, 1, 1, 1, 1, 16)
    assert (degrees.schedule, degrees.sharding, degrees.sequence_parallel) == ("1f1b", "none", False)
    assert degrees.stage_layers == (32,)
    assert result.name == "small"
    assert result.software == stack
    assert result.training.overlap == stack.overlap
    assert (result.training.attention, result.training.grad_dtype) == (stack.attention, stack.grad_dtype)
    assert (result.training.micro_batch_size, result.training.precision) == (1, "bf16")
    assert result.cluster.network.bytes_per_s_per_gpu == result.cluster.gpu.network_bytes_per_s
    assert any("network is assumed" in warning for warning in result.warnings)


def test_a_full_file() -> None:
    result = scenario()
    assert result.cluster.network.tiers[0].latency_s == pytest.approx(5e-6)
    assert result.cluster.network.bytes_per_s_per_gpu == 50e9
    assert result.cluster.price_per_gpu_hour == 2.5
    assert result.parallelism.dp == 8
    assert result.parallelism.schedule == "interleaved"
    assert result.parallelism.sequence_parallel
    assert result.parallelism.stage_layers == (10,) * 8
    assert result.training.tokens == 15e12
    assert result.training.overlap.tp
    assert result.sweep is not None
    assert (result.sweep.x, result.sweep.parameters) == ("cluster.gpus", {"cluster.gpus": (256, 512)})
    assert result.measured is not None
    assert result.measured.values == {"tflops_per_gpu": 400}
    assert result.warnings == ()


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_resolved_document_gives_the_same_scenario(path: Path) -> None:
    result = files.load(path)
    again = files.from_document(result.document)
    assert (again, again.digest(), again.sweep) == (result, result.digest(), result.sweep)
    assert json.loads(json.dumps(result.document)) == result.document


@pytest.mark.parametrize(
    ("spelling", "short"),
    [
        ("tensor_model_parallel_size=8", "tp=8"),
        ("tensor_parallel_degree=8", "tp=8"),
        ("pipeline_model_parallel_size=8", "pp=8"),
        ("virtual_pipeline_model_parallel_size=null", "vpp=1"),
        ("context_parallel_size=1", "cp=1"),
        ("data_parallel_size=-1", "dp=auto"),
        ("enable_sequence_parallel=false", "sequence_parallel=false"),
        ("use_distributed_optimizer=false", "sharding=none"),
        ("zero_stage=2", "sharding=zero2"),
        ("data_parallel_sharding_strategy=optim", "sharding=zero1"),
        ("pipeline_parallel_schedule=Interleaved1F1B", "schedule=interleaved"),
        ("cp_comm_type=p2p", "cp_comm=ring"),
    ],
)
def test_other_spellings_mean_the_same(spelling: str, short: str) -> None:
    assert scenario(f"parallelism.{spelling}") == scenario(f"parallelism.{short}")


def test_other_spellings_of_training() -> None:
    full = scenario("training.recompute=full")
    assert full == scenario("training.recompute_granularity=full") != scenario()
    assert full == scenario("training.recompute={granularity: full}")
    assert scenario("training.gbs=512") == scenario("training.global_batch_size=512")


@given(
    st.sampled_from(
        [
            ("parallelism.tp", 8),
            ("parallelism.layers", [11, 9, 10, 10, 10, 10, 10, 10]),
            ("training.precision", "fp8"),
            ("training.tokens", "1.5T"),
            ("training.overlap.grad_reduce", False),
            ("cluster.gpu", "h200-141gb"),
            ("cluster.network", None),
            ("sweep.y", "mfu"),
            ("simulation.seed", 7),
            ("name", "another"),
        ]
    )
)
@settings(deadline=None, max_examples=12)
def test_an_override_equals_an_edit(change: tuple[str, object]) -> None:
    path, value = change
    edited = files.from_document(put(content(), path, value))
    overridden = scenario(f"{path}={json.dumps(value)}")
    assert (edited, edited.document) == (overridden, overridden.document)


def test_a_base_is_changed_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "below.yaml").write_text(TEXT)
    middle = "base: ../below.yaml\nparallelism: {tensor_model_parallel_size: 8}\n"
    (tmp_path / "sub" / "middle.yaml").write_text(middle)
    (tmp_path / "top.yaml").write_text("base: sub/middle.yaml\nname: top\nmeasured: {mfu: 0.4, source: me}\n")
    result = files.load(tmp_path / "top.yaml", ["training.micro_batch_size=2"])
    expected = scenario("parallelism.tp=8", "training.micro_batch_size=2", "name=top", "measured=null")
    assert result.parallelism == expected.parallelism
    assert result.training == expected.training
    assert result.measured is not None
    assert result.measured.values == {"mfu": 0.4}, "a measurement of the base is not one of the variation"
    assert "base" not in result.document
    (tmp_path / "sub" / "middle.yaml").write_text(middle.replace("8", "3"))
    with pytest.raises(ScenarioError, match=r"below\.yaml:5:9: cluster\.gpus"):
        files.load(tmp_path / "top.yaml")
    (tmp_path / "sub" / "middle.yaml").write_text(middle.replace("8", "five"))
    with pytest.raises(ScenarioError, match=r"middle\.yaml:2:43: parallelism\.tp: .*'five'"):
        files.load(tmp_path / "top.yaml")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert files.load("-") == scenario()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"name: x\nmodle: y")))
    with pytest.raises(ScenarioError, match="standard input:2:1: modle: unknown key; did you mean 'model'"):
        files.load("-")


def test_lighter_ends_hold_one_layer_fewer() -> None:
    base = ["model=llama3-405b", "cluster.gpus=16384", "training.global_batch_size=2048", "parallelism.cp=1"]
    wide = scenario(*base, "parallelism={tp: 8, pp: 16, vpp: 8, layers: lighter-ends}")
    assert wide.parallelism.stage_layers == (0, *(1,) * 126, 0)
    deep = scenario(*base, "parallelism={tp: 8, pp: 16, vpp: 1, layers: lighter-ends, schedule: null}")
    assert deep.parallelism.stage_layers == (7, *(8,) * 14, 7)


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (
            ("parallelism.tp=1", "parallelism.sequence_parallel=true"),
            "parallelism.sequence_parallel has no effect",
        ),
        (("parallelism.tp=1",), "training.overlap.tp has no effect"),
        (("parallelism.pp=1", "parallelism.vpp=1", "training.overlap.p2p=true"), "overlap.p2p has no effect"),
        (("parallelism.sharding=none", "training.overlap.param_gather=true"), "param_gather has no effect"),
        (
            ("cluster.gpus=32", "parallelism.cp=1", "parallelism.dp=2", "cluster.nvlink_domain=32"),
            "network has no eff",
        ),
        (("parallelism.tp=16",), "larger than the scale-up domain of 8"),
        (("cluster.gpus=96", "cluster.gpus_per_node=64", "training.gbs=96"), "does not fill nodes of 64"),
        (("parallelism.vpp=1", "training.gbs=16"), "do not fill a pipeline"),
        (("cluster.network=null",), "network is assumed: 400 Gb/s"),
        (("cluster.gpus=16", "parallelism.cp=1", "training.gbs=16"), "parallelism.sharding has no effect"),
        (("parallelism.cp=1", "parallelism.cp_comm=ring"), "cp_comm has no effect"),
    ],
)
def test_settings_without_effect_are_named(overrides: tuple[str, ...], warning: str) -> None:
    assert any(warning in text for text in scenario(*overrides).warnings)


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
    from simulator.scenario.parameters import active_parameters, total_parameters

    (tmp_path / "config.json").write_text(json.dumps(config))
    model = files.read_config(tmp_path)
    assert total_parameters(model) == total_parameters(catalogue.model(name))
    assert active_parameters(model) == active_parameters(catalogue.model(name))
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


def test_the_json_schema_is_fresh_and_accepts_every_scenario() -> None:
    stored = json.loads(Path(files.__file__).with_name("schema.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(files.json_schema())), (
        "simulator schema > simulator/files/schema.json"
    )
    degrees = stored["$defs"]["ParallelismSection"]["properties"]
    assert degrees["tensor_model_parallel_size"]["description"] == "Another spelling of `tp`."
    assert degrees["tp"]["description"] == "Tensor-parallel ranks."
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(stored)
    for path in SCENARIOS.glob("*.yaml"):
        assert not list(validator.iter_errors(read(path).data))
    assert list(validator.iter_errors({"clutser": {}}))


@given(st.text() | st.text(alphabet="ab:-[]{},&*!|>'\"#%@ \n\t?1.0", max_size=60))
@settings(deadline=None, max_examples=150)
def test_garbage_is_an_error_of_ours(text: str) -> None:
    try:
        data = parse(text, "garbage").data
    except SimulatorError:
        return
    with pytest.raises(SimulatorError):
        files.from_document(data if isinstance(data, dict) else {})


@given(st.lists(st.tuples(SETTINGS, VALUES), min_size=1, max_size=3))
@settings(deadline=None, max_examples=150)
def test_a_mutated_file_loads_or_is_an_error_of_ours(changes: list[tuple[str, object]]) -> None:
    data = content()
    for path, value in changes:
        put(data, path, value)
    with contextlib.suppress(SimulatorError):
        files.from_document(data)


@given(SETTINGS | st.text(max_size=12), st.text(max_size=12) | SCALARS.map(str))
@settings(deadline=None, max_examples=150)
def test_any_override_loads_or_is_an_error_of_ours(path: str, value: str) -> None:
    with contextlib.suppress(SimulatorError):
        scenario(f"{path}={value}")
