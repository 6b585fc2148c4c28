"""What a scenario file means: defaults, other spellings, overrides, bases, models and layers."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_documents import TEXT, content, put

from simulator import catalogue, files
from simulator.documents import parse, read
from simulator.errors import ScenarioError, SimulatorError

if TYPE_CHECKING:
    from simulator.scenario import Scenario

SCENARIOS = Path(__file__).parents[1] / "scenarios"
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


def scenario(*overrides: str) -> Scenario:
    return files.from_document(content(), overrides=overrides)


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
        (("simulation.seed=7",), "simulation.seed has no effect"),
    ],
)
def test_settings_without_effect_are_named(overrides: tuple[str, ...], warning: str) -> None:
    assert any(warning in text for text in scenario(*overrides).warnings)


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
