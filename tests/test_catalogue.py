from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING

import pytest

from simulator import catalogue
from simulator.catalogue.kernels import is_measured
from simulator.catalogue.lookup import aliases, document, find, normalised
from simulator.catalogue.training import typical_habits
from simulator.documents import parse, validate
from simulator.errors import CatalogueError, ScenarioError
from simulator.scenario import Model, Overlap
from simulator.scenario.parameters import ModelParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.catalogue.entry import Entry

SCHEMAS: dict[str, type[Entry]] = {
    "gpu": catalogue.GpuEntry,
    "network": catalogue.NetworkEntry,
    "model": catalogue.ModelEntry,
    "software": catalogue.SoftwareEntry,
}
ENTRIES = [(kind, name) for kind in SCHEMAS for name in catalogue.names(kind)]
LOADERS = {
    "gpu": catalogue.gpu,
    "network": catalogue.network,
    "model": catalogue.model,
    "software": catalogue.software,
}
KINDS = {"datasheet", "measured", "fitted", "assumed"}
# The accelerators of the published rows that `simulator validate` reads, and those of the data sheets.
PUBLISHED_GPUS = [
    *("v100-16gb-sxm", "a100-40gb-sxm", "a100-80gb-sxm", "a800-80gb", "h100-80gb-sxm", "h100-96gb-hbm2e-sxm"),
    *("h800-80gb", "h200-141gb", "b200", "gb200", "b300", "gb300", "mi300x", "mi355x"),
    *("tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7x"),
]
DATA_SHEETS = [
    *("v100-32gb-sxm", "a100-80gb-pcie", "h100-80gb-pcie", "h100-94gb-nvl", "h20-96gb", "gh200-96gb"),
    *("mi250x", "mi325x", "tpu-v7", "gaudi2", "gaudi3", "trn2"),
]
SIZES = (
    "num_hidden_layers: 2, hidden_size: 64, num_attention_heads: 4, intermediate_size: 256, vocab_size: 99"
)
# Published stack strings and the entry that is meant.
STACKS = {
    "Megatron-LM 2021": ("megatron-lm-2021", True),
    "Megatron-LM 2022": ("megatron-lm-2022", True),
    "Megatron-Core": ("megatron-core", True),
    "Megatron-Core 2024": ("megatron-core", True),
    "Megatron-Core (reduced layers)": ("megatron-core", True),
    "Megatron-LM (deterministic test mode)": ("megatron-core", True),
    "Megatron-LM fork 2024 (sail-sg)": ("megatron-lm-sail-sg", True),
    "Megatron-LM fork 2023 (sail-sg)": ("megatron-lm-sail-sg-2023", True),
    "Megatron-DeepSpeed (BigScience 2022)": ("bigscience", True),
    "Megatron-DeepSpeed (vTrain testbed)": ("megatron-deepspeed", False),
    "Megatron-Bridge": ("megatron-bridge", True),
    "Megatron-Bridge 26.06": ("megatron-bridge", True),
    "NeMo (DGXC release 25.05)": ("nemo", True),
    "NeMo 25.xx": ("nemo", True),
    "llm-foundry / Composer FSDP": ("llm-foundry", True),
    "MaxText / XLA": ("maxtext", True),
    "torchtitan": ("torchtitan", True),
    "InternEvo": ("internevo", True),
    "aleph-alpha-scaling 2023 (Megatron-style, PyTorch 2)": ("aleph-alpha-scaling", True),
    "see notes": ("megatron-core", False),
}


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_entry_loads_and_every_number_has_a_source(kind: str, name: str) -> None:
    entry = LOADERS[kind](name)
    assert entry.name == name
    rows = catalogue.describe(kind, name)
    assert rows
    for row in rows:
        assert row.value, row
        if row.field in {"kind", "kernels_like"}:
            continue
        assert row.kind in KINDS, row
        assert len(row.source) > 8, f"{row.field} cites nothing: {row.source!r}"


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_sources_are_defined_and_used(kind: str, name: str) -> None:
    text = (catalogue.lookup._folder(kind) / f"{name}.yaml").read_text("utf-8")
    entry = validate(document(kind, name), SCHEMAS[kind])
    used = set(re.findall(r"\{value: .*, source: ([\w-]+)\}", text))
    assert used == entry.sources.keys()
    assert "/work" not in text
    assert entry.title


def test_provenance_reaches_the_scenario() -> None:
    gpu = catalogue.gpu("h100-80gb-sxm")
    assert gpu.sources["peak_flop_per_s.bf16"].kind == "datasheet"
    assert "stas00/ml-engineering" in gpu.sources["peak_flop_per_s.bf16"].source
    assert any(path.startswith("gemm.bf16") for path in gpu.sources)
    lent = catalogue.gpu("h100-96gb-hbm2e-sxm")
    assert lent.sources["elementwise_fraction"].kind == "assumed"


@pytest.mark.parametrize("kind", ["gpu", "software"])
def test_each_number_of_the_scenario_names_its_source(kind: str) -> None:
    """Neither a field of the dataclass nor a part of one lacks its origin, and no origin lacks its field."""
    for name in catalogue.names(kind):
        data = LOADERS[kind](name)
        assert not isinstance(data, Model)
        parts = dict(_numbers(data, ""))
        assert parts.keys() - data.sources.keys() == set(), name
        assert data.sources.keys() <= parts.keys() | {"overlap"}, name


def _numbers(data: object, path: str) -> Iterator[tuple[str, object]]:
    if is_dataclass(data) and not isinstance(data, Overlap):
        parts = {field.name: getattr(data, field.name) for field in fields(data)}
        parts = {key: part for key, part in parts.items() if key not in {"name", "sources"}}
    elif isinstance(data, Mapping):
        parts = dict(data)
    else:
        if data is not None:
            yield path, data
        return
    for key, part in parts.items():
        yield from _numbers(part, f"{path}.{key}" if path else str(key))


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("bucket: 0 B", "bucket", "must be more than 0"),
        ("bucket: 100", "bucket", "has no unit (for example '80 GB')"),
        ("bucket: {value: 1 s, source: x}", "bucket.value", "is in seconds, expected bytes"),
        ("memory_fragmentation: 1.0", "memory_fragmentation", "must be less than 1"),
        ("loss_metrics: -1", "loss_metrics", "must be at least 0"),
        ("loss_metrics: 2000000000", "loss_metrics", "must be at most 1000000000"),
        ("sorts_copies: 1", "sorts_copies", "expected true or false"),
        ("fused: [nrm]", "fused", "did you mean 'norm'"),
        ("overlap: {tp: 3}", "overlap", "expected true or false"),
        ("bucket_bytes: 1 MB", "bucket_bytes", "unknown key; did you mean 'bucket'"),
        ("sorts_copies: {value: true, sorce: x}", "sorts_copies", "did you mean 'source'"),
    ],
)
def test_what_a_stack_cannot_be_is_explained(text: str, path: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        validate(parse(f"like: megatron-core\n{text}", "stack.yaml"), catalogue.SoftwareEntry)
    problem = next(problem for problem in caught.value.problems if message in problem.message)
    assert problem.path.startswith(path)
    assert problem.line == 2


def test_numbers_of_the_headline_machine() -> None:
    h100, roce = catalogue.gpu("h100"), catalogue.network("meta-24k-roce")
    assert (h100.peak_flop_per_s["bf16"], h100.memory_bytes_per_s, h100.scale_up_bytes_per_s) == (
        989e12,
        3.35e12,
        450e9,
    )
    assert [(tier.gpus, tier.oversubscription) for tier in roce.tiers] == [(16, 1), (3072, 1), (0, 7)]
    assert roce.bytes_per_s_per_gpu == 50e9


@pytest.mark.parametrize("name", [*PUBLISHED_GPUS, *DATA_SHEETS])
def test_catalogue_covers_accelerators(name: str) -> None:
    gpu = catalogue.gpu(name)
    assert {"bf16", "fp16"} & gpu.peak_flop_per_s.keys()
    assert gpu.gemm
    assert gpu.attention


def test_each_gpu_is_measured_or_says_which_one_lends_its_kernels() -> None:
    for name in catalogue.names("gpu"):
        entry = validate(document("gpu", name), catalogue.GpuEntry)
        assert is_measured(name) or entry.kernels_like, name


@pytest.mark.parametrize("name", catalogue.names("model"))
def test_parameter_counts_match_the_published_ones(name: str) -> None:
    model = catalogue.model(name)
    data = document("model", name).data
    assert isinstance(data, dict)
    parameters = ModelParameters.of(model)
    counts = {
        "published_parameters": parameters.total,
        "published_active_parameters": parameters.active,
    }
    entry = validate(document("model", name), catalogue.ModelEntry)
    for key, count in counts.items():
        published = getattr(entry, key)
        if published is None:
            assert key == "published_active_parameters" or name == "llama3-8x70b"
        elif isinstance(data[key], int):
            assert count == published
        else:
            assert count == pytest.approx(
                published, rel=0.005, abs=0.005 * published + _half_digit(data[key])
            )


def _half_digit(text: str) -> float:
    """Half a unit of the last digit: the published figure is rounded."""
    digits, unit = text[:-1], {"M": 1e6, "B": 1e9, "T": 1e12}[text[-1]]
    return 0.5 * unit * 10.0 ** -len(digits.partition(".")[2])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_no_two_entries_share_a_name(kind: str) -> None:
    words = [*catalogue.names(kind)]
    for name in catalogue.names(kind):
        words += validate(document(kind, name), SCHEMAS[kind]).aliases
    assert len({normalised(word) for word in words}) == len(words)
    assert set(words) == {*catalogue.names(kind), *aliases(kind)}
    for alias, name in aliases(kind).items():
        assert find(kind, alias) == name


@pytest.mark.parametrize(
    ("kind", "written", "name"),
    [
        ("gpu", "h100", "h100-80gb-sxm"),
        ("gpu", "H100 80GB SXM", "h100-80gb-sxm"),
        ("gpu", "tpu-v7x", "tpu-v7"),
        ("model", "llama3.1-405b", "llama3-405b"),
        ("model", "llama-3-405b", "llama3-405b"),
        ("model", "Llama_3.1_8B", "llama3-8b"),
        ("model", "DeepSeek-V3", "deepseek-v3"),
        ("network", "rail-optimized-400g", "rail-optimised-400g"),
        ("software", "Megatron-LM", "megatron-core"),
    ],
)
def test_other_spellings_find_the_entry(kind: str, written: str, name: str) -> None:
    assert LOADERS[kind](written) is LOADERS[kind](name)


@pytest.mark.parametrize(
    ("kind", "written", "near"),
    [
        ("gpu", "h100-80gb-smx", "h100-80gb-sxm"),
        ("model", "lama3-405b", "llama3-405b"),
        ("network", "meta-24k-rce", "meta-24k-roce"),
        ("software", "megatron-cor", "megatron-core"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(kind: str, written: str, near: str) -> None:
    with pytest.raises(CatalogueError, match=f"did you mean '{near}'"):
        LOADERS[kind](written)


@pytest.mark.parametrize(
    "written", ["", "../gpus/h100-80gb-sxm", "/etc/passwd", "x" * 10_000, "\0", "..", "qqqq"]
)
def test_a_name_that_is_none(written: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        catalogue.gpu(written)
    assert len(str(caught.value)) < 300


def test_unknown_kind() -> None:
    with pytest.raises(CatalogueError, match="gpus"):
        catalogue.names("cpus")


@pytest.mark.parametrize("text", STACKS)
def test_published_stack_finds_the_nearest_entry(text: str) -> None:
    assert catalogue.software_for_stack(text) == STACKS[text]


def test_inline_gpu_needs_no_sources() -> None:
    text = """
peak: {bf16: 500 TFLOP/s}
memory: {capacity: 64 GiB, bandwidth: {value: 2 TB/s, source: vendor data sheet}}
scale_up: {bandwidth: 200 GB/s, domain: 8}
network_bandwidth: 200 Gb/s
kernels_like: a100
"""
    gpu = validate(parse(text), catalogue.GpuEntry).to_scenario("mine")
    assert (gpu.name, gpu.memory_bytes, gpu.network_bytes_per_s) == ("mine", 2**36, 25e9)
    assert gpu.sources["memory_bytes"].kind == "assumed"
    assert gpu.sources["memory_bytes_per_s"].source == "vendor data sheet"
    assert gpu.gemm == catalogue.gpu("a100-80gb-sxm").gemm


def test_inline_entry_like_another_changes_only_what_it_states() -> None:
    half = """
like: megatron-core
kernel_launch: 4 us
overlap: {grad_reduce: false, param_gather: false, p2p: false, tp: false}
"""
    stack = validate(parse(half), catalogue.SoftwareEntry).to_scenario("mine")
    base = catalogue.software("megatron-core")
    assert stack == replace(base, name="mine", kernel_launch_s=stack.kernel_launch_s, overlap=stack.overlap)
    assert (stack.kernel_launch_s, stack.overlap.grad_reduce) == (pytest.approx(4e-6), False)
    assert (type(stack.fused), type(stack.recompute_modules)) == (frozenset, tuple)
    assert stack.sources["kernel_launch_s"].kind == "assumed"
    more = validate(parse("{like: h100, memory: {capacity: 96 GB}}"), catalogue.GpuEntry).to_scenario("mine")
    assert more == replace(catalogue.gpu("h100"), name="mine", memory_bytes=96e9)
    a100 = validate(parse("{like: a100}"), catalogue.GpuEntry).to_scenario("mine")
    assert a100.gemm == catalogue.gpu("a100").gemm
    assert more.sources["memory_bytes_per_s"].kind == "datasheet"
    with pytest.raises(ScenarioError, match="did you mean 'h100'"):
        validate(parse("{like: h1000}"), catalogue.GpuEntry)


STACK = """
attention: flash2
fused: [norm, rope]
overlap: {grad_reduce: true, param_gather: true, p2p: true, tp: false}
wgrad_overlaps_tp: false
bucket: 100 MB
grad_dtype: fp32
optimizer_bytes_per_parameter: 32
framework_memory: 2 GiB
memory_fragmentation: 0.03
"""


def test_a_stack_without_runs_is_typical_in_what_it_does_not_state() -> None:
    """Host times and slowdowns of stacks are fitted together: a new one starts from what they share."""
    bare = validate(parse(STACK), catalogue.SoftwareEntry).to_scenario("mine")
    typical = typical_habits()
    for field, number in typical.items():
        assert getattr(bare, field) == number.value
        assert bare.sources[field].kind == "assumed"
        assert "stacks share" in bare.sources[field].source
    assert typical.keys() == {"kernel_launch_s", "elementwise_slowdown", "step_overhead_s"}
    assert bare.module_call_s == 0
    stated = validate(
        parse(STACK + "kernel_launch: 3 us\nstep_overhead: {value: 1 ms, source: my own runs}"),
        catalogue.SoftwareEntry,
    ).to_scenario("mine")
    assert (stated.kernel_launch_s, stated.step_overhead_s) == (pytest.approx(3e-6), 1e-3)
    assert stated.sources["step_overhead_s"].source == "my own runs"
    assert stated.elementwise_slowdown == bare.elementwise_slowdown


def test_show_prints_the_numbers_in_force() -> None:
    software, gpu = catalogue.software("meta-llama3"), catalogue.gpu("h100")
    rows = {row.field: row for row in catalogue.describe("software", "meta-llama3")}
    assert float(rows["step_overhead"].value.removesuffix(" s")) == software.step_overhead_s
    assert rows["step_overhead"].source == software.sources["step_overhead_s"].source
    clocks = {row.field: row.value for row in catalogue.describe("gpu", "h100")}
    assert float(clocks["training_clock.bf16"]) == gpu.training_clock["bf16"]


def test_inline_network_and_model_need_little() -> None:
    network = validate(parse("bandwidth_per_gpu: 400 Gb/s\nlatency: 5 us"), catalogue.NetworkEntry)
    assert [tier.latency_s for tier in network.to_scenario("mine").tiers] == [pytest.approx(5e-6)]
    model = validate(parse("{" + SIZES + "}"), catalogue.ModelEntry).to_scenario("mine")
    assert (model.head_dim, model.num_key_value_heads) == (16, 4)


@pytest.mark.parametrize(
    ("schema", "text", "message"),
    [
        (catalogue.NetworkEntry, "bandwidth_per_gpu: 400 GB", "400 Gb/s"),
        (catalogue.NetworkEntry, "{bandwidth_per_gpu: 1 Gb/s, tiers: [{name: a, gpus: 8}]}", "gpus: 0"),
        (catalogue.NetworkEntry, "{bandwidth_per_gpu: 1 Gb/s, kind: torus}", "torus"),
        (catalogue.ModelEntry, "{hidden_size: 64}", "num_hidden_layers"),
        (
            catalogue.ModelEntry,
            "{" + SIZES.replace("64", "65") + "}",
            "head_dim",
        ),
    ],
)
def test_inline_mistakes_are_explained(schema: type[Entry], text: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(message)):
        validate(parse(text), schema)


def test_one_entry_is_read_quickly() -> None:
    catalogue.model("llama2-7b")  # imports and regular expressions
    catalogue.load._model.cache_clear()
    fastest = min(_seconds_to_read("deepseek-v3") for _ in range(10))
    assert fastest < 0.02


def _seconds_to_read(name: str) -> float:
    catalogue.load._model.cache_clear()
    catalogue.lookup._document.cache_clear()
    start = time.process_time()
    catalogue.model(name)
    return time.process_time() - start
