"""Settling: what notes say becomes settings of the row, and nothing else reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from published_rows import Fixed, parsed, row, settled

from simulator import validation
from simulator.cli import main
from simulator.cli.check import yaml_text
from simulator.documents import parse
from simulator.errors import RowError
from simulator.files import from_document
from simulator.validation.row_settings import FIELD_OF
from simulator.validation.rows import RawRow, read_rows
from simulator.validation.settle import settle, settle_row
from simulator.validation.settle.__main__ import main as settle_main
from simulator.validation.settle.rewrite import flow, with_keys
from simulator.validation.show import shown_row
from simulator.validation.to_scenario import row_document, to_scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

GATE = Path(__file__).parent / "data" / "published_gate.yaml"
MOE: dict[str, object] = {
    "arch": {"experts": 8, "topk": 2, "expert_ffn": 14336},
    "parallel": {"tp": 2, "pp": 1, "ep": 4, "dp": 32},
}

_FACTOR, _PADDED = "training.experts.capacity_factor", "training.experts.pad_to_capacity"

WORDINGS: list[tuple[str, dict[str, object]]] = [
    ("CUDA graphs on", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("trained with CUDA graphs", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("CUDA graphs for attention, the rest eager", {"training.cuda_graphs": ["attn"]}),
    ("a full-iteration CUDA graph", {"training.cuda_graphs": ["full_iteration"]}),
    ("the whole step is captured as one CUDA graph", {"training.cuda_graphs": ["full_iteration"]}),
    ("one CUDA graph for the whole step", {"training.cuda_graphs": ["full_iteration"]}),
    ("without CUDA graphs", {"training.cuda_graphs": []}),
    ("CUDA graphs disabled", {"training.cuda_graphs": []}),
    ("ETP=1", {"parallelism.etp": 1}),
    ("ETP=TP", {"parallelism.etp": 2}),
    ("expert tensor parallel size 1", {"parallelism.etp": 1}),
    ("expert tensor parallelism of 2", {"parallelism.etp": 2}),
    ("experts are not tensor-parallel", {"parallelism.etp": 1}),
    ("expert TP 1", {"parallelism.etp": 1}),
    ("EP all-to-all overlap ON", {"training.overlap.ep": True}),
    ("EP communication is overlapped", {"training.overlap.ep": True}),
    ("overlap of the MoE all-to-all with compute", {"training.overlap.ep": True}),
    ("communication among experts hidden behind other micro-batches", {"training.overlap.ep": True}),
    ("no EP overlap", {"training.overlap.ep": False}),
    ("the all-to-all is exposed", {"training.overlap.ep": False}),
    ("DeepEP", {"training.experts.dispatcher": "deepep"}),
    ("all-to-all token dispatcher", {"training.experts.dispatcher": "alltoall"}),
    ("tokens dispatched by NCCL's all-gather", {"training.experts.dispatcher": "allgather"}),
    (
        "capacity factor of 1.25, padded to capacity",
        {_FACTOR: 1.25, _PADDED: True},
    ),
    (
        "token-dropping",
        {_FACTOR: 1.0, _PADDED: True},
    ),
    ("no token dropping", {}),
    ("dropless", {}),
    ("torch.compile", {"software": "torchtitan-compile"}),
    ("no torch.compile", {}),
    (
        "BF16 optimizer states, FP32 primary weights",
        {"training.moment_dtype": "bf16", "training.master_dtype": "fp32"},
    ),
    ("AdamW offloaded to the CPU", {"training.offload.optimizer": "cpu"}),
    (
        "activation CPU offload of 4 layers",
        {"training.offload.activations": "all", "training.offload.num_layers": 4},
    ),
    ("no offload", {}),
    ("full activation checkpointing", {"training.recompute": "full"}),
    ("no recomputation", {"training.recompute": "none"}),
    ("selective recompute", {"training.recompute": "selective"}),
    ("recomputes moe_act and layernorm", {"training.recompute_modules": ["moe_act", "layernorm"]}),
    ("PyTorch 2.6", {"pytorch": "2.6"}),
    ("peak is max_memory_allocated", {"memory_quantity": "allocated"}),
    ("cross entropy in 8 chunks", {"training.loss_chunks": 8}),
    ("mean document length of 2,048 tokens", {"training.mean_document_length": 2048}),
    ("micro batch size 2", {"training.micro_batch_size": 2}),
    ("no DeepEP", {}),
    ("without DeepEP", {}),
    ("DeepEP disabled", {}),
    ("DeepEP is not used", {}),
    ("flex dispatcher with DeepEP", {"training.experts.dispatcher": "deepep"}),
    ("dispatcher: hybrid-ep", {"training.experts.dispatcher": "hybridep"}),
    ("moe_token_dispatcher_type=alltoall", {"training.experts.dispatcher": "alltoall"}),
    ("moe_token_dispatcher_type: allgather", {"training.experts.dispatcher": "allgather"}),
    ("Hybrid-EP", {"training.experts.dispatcher": "hybridep"}),
    ("uses Deep-EP for token dispatch", {"training.experts.dispatcher": "deepep"}),
    ("all-to-all dispatcher instead of DeepEP", {"training.experts.dispatcher": "alltoall"}),
    ("no full-iteration CUDA graph", {"training.cuda_graphs": []}),
    ("CUDA graphs were not used", {"training.cuda_graphs": []}),
    ("does not use CUDA graphs", {"training.cuda_graphs": []}),
    ("CUDA graph off", {"training.cuda_graphs": []}),
    ("CUDA graphs: off", {"training.cuda_graphs": []}),
    ("no graphs", {}),
    ("enable_cuda_graph=True", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("enable_cuda_graph: false", {"training.cuda_graphs": []}),
    ("cuda_graph_scope=[attn, moe_router]", {"training.cuda_graphs": ["attn", "moe_router"]}),
    ("CUDA graph scope attn+moe_router", {"training.cuda_graphs": ["attn", "moe_router"]}),
    ("CUDA graphs capture attention and router", {"training.cuda_graphs": ["attn", "moe_router"]}),
    ("layer-wise CUDA graphs", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("CUDA-graphed training step", {"training.cuda_graphs": ["full_iteration"]}),
    ("whole-iteration CUDA graphs", {"training.cuda_graphs": ["full_iteration"]}),
    ("CUDA graphs over the full iteration", {"training.cuda_graphs": ["full_iteration"]}),
    (
        "partial CUDA graphs (attn, moe_router, moe_preprocess)",
        {"training.cuda_graphs": ["attn", "moe_router", "moe_preprocess"]},
    ),
    ("cuda_graph_impl=full_iteration", {"training.cuda_graphs": ["full_iteration"]}),
    ("cuda_graph_impl=local, cuda_graph_scope=full_iteration", {"training.cuda_graphs": ["full_iteration"]}),
    ("CUDA graphs enabled", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("with CUDA graph", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("CUDA graphs not stated", {}),
    ("unclear whether CUDA graphs were used", {}),
    ("etp1", {"parallelism.etp": 1}),
    ("ETP1", {"parallelism.etp": 1}),
    ("ETP 2", {"parallelism.etp": 2}),
    ("etp=1", {"parallelism.etp": 1}),
    ("expert_tensor_parallel_size=1", {"parallelism.etp": 1}),
    ("expert-tensor-parallel-size 1", {"parallelism.etp": 1}),
    ("expert_tensor_parallel_size: 2", {"parallelism.etp": 2}),
    ("expert_tensor_parallel_degree 1", {"parallelism.etp": 1}),
    ("expert tensor parallel degree of one", {"parallelism.etp": 1}),
    ("expert tensor parallelism 1", {"parallelism.etp": 1}),
    ("without expert tensor parallelism", {"parallelism.etp": 1}),
    ("no tensor parallelism in experts", {"parallelism.etp": 1}),
    ("tensor parallelism of experts: 1", {"parallelism.etp": 1}),
    ("experts use TP1", {"parallelism.etp": 1}),
    ("experts tensor-parallel as TP", {"parallelism.etp": 2}),
    ("TP is applied to attention only", {"parallelism.etp": 1}),
    ("experts not sharded by TP", {"parallelism.etp": 1}),
    ("ETP not stated", {}),
    ("overlap MoE all-to-all", {"training.overlap.ep": True}),
    ("communication of experts overlapped", {"training.overlap.ep": True}),
    ("EP overlap", {"training.overlap.ep": True}),
    ("EP overlap off", {"training.overlap.ep": False}),
    ("EP overlap: off", {"training.overlap.ep": False}),
    ("EP overlap=False", {"training.overlap.ep": False}),
    ("EP A2A overlap on", {"training.overlap.ep": True}),
    ("EP comm overlap enabled", {"training.overlap.ep": True}),
    ("EP comm overlap disabled", {"training.overlap.ep": False}),
    ("MoE communication overlap is not used", {"training.overlap.ep": False}),
    ("EP all-to-all is hidden behind compute", {"training.overlap.ep": True}),
    ("all-to-all overlapped with computation (1F1B overlap)", {"training.overlap.ep": True}),
    ("overlap_moe_expert_parallel_comm=True", {"training.overlap.ep": True}),
    ("overlap_moe_expert_parallel_comm: true", {"training.overlap.ep": True}),
    ("overlap-moe-expert-parallel-comm", {"training.overlap.ep": True}),
    ("moe_a2a_overlap=True", {"training.overlap.ep": True}),
    ("moe_a2a_overlap: false", {"training.overlap.ep": False}),
    ("MoE A2A overlap", {"training.overlap.ep": True}),
    ("without overlapping the all-to-all", {"training.overlap.ep": False}),
    ("expert communication not overlapped", {"training.overlap.ep": False}),
    ("expert-parallel communication overlapped with compute", {"training.overlap.ep": True}),
    ("no A2A overlap", {"training.overlap.ep": False}),
    ("CP all-to-all overlapped", {}),
    ("EP overlap not stated", {}),
    ("token dispatch is overlapped with compute", {"training.overlap.ep": True}),
    ("DualPipe-style overlap of dispatch and combine", {"training.overlap.ep": True}),
    ("without token dropping", {}),
    (
        "capacity factor 1",
        {_FACTOR: 1.0, _PADDED: False},
    ),
    (
        "moe_expert_capacity_factor=1.5",
        {_FACTOR: 1.5, _PADDED: False},
    ),
    (
        "capacity factor: 2.0, pad to capacity",
        {_FACTOR: 2.0, _PADDED: True},
    ),
    (
        "tokens dropped above capacity factor 1.25",
        {_FACTOR: 1.25, _PADDED: False},
    ),
    ("token-drop", {_FACTOR: 1.0, _PADDED: True}),
    ("tokens are never dropped", {}),
    ("drop and pad", {_FACTOR: 1.0, _PADDED: True}),
    ("CF 1.25", {_FACTOR: 1.25, _PADDED: False}),
    ("no capacity limit", {}),
    ("torch.compile not used", {}),
    ("torch.compile disabled", {}),
    ("compile=False", {}),
    ("compiled with torch.compile", {"software": "torchtitan-compile"}),
    ("compile: true", {"software": "torchtitan-compile"}),
    ("torch compile on", {"software": "torchtitan-compile"}),
    ("model was compiled", {"software": "torchtitan-compile"}),
    ("eager, compile off", {}),
    ("not compiled", {}),
    ("compile enabled", {"software": "torchtitan-compile"}),
    ("whether compiled is not stated: torch.compile unknown", {}),
    ("recompute none", {"training.recompute": "none"}),
    ("no activation checkpointing", {"training.recompute": "none"}),
    ("activation recomputation off", {"training.recompute": "none"}),
    ("recompute is off", {"training.recompute": "none"}),
    ("recompute full", {"training.recompute": "full"}),
    ("full AC", {"training.recompute": "full"}),
    ("selective AC", {"training.recompute": "selective"}),
    ("gradient checkpointing", {"training.recompute": "full"}),
    ("activation checkpointing on", {"training.recompute": "full"}),
    ("gradient checkpointing enabled", {"training.recompute": "full"}),
    ("recompute: selective", {"training.recompute": "selective"}),
    ("no full recompute", {}),
    ("activation checkpointing of all layers", {"training.recompute": "full"}),
    ("recompute of moe_act", {"training.recompute_modules": ["moe_act"]}),
    ("recompute modules core_attn, mlp", {"training.recompute_modules": ["core_attn", "mlp"]}),
    ("recompute not stated", {}),
    ("optimizer offload", {"training.offload.optimizer": "cpu"}),
    ("CPU optimizer offload", {"training.offload.optimizer": "cpu"}),
    ("optimizer states in host memory", {"training.offload.optimizer": "cpu"}),
    ("activations offloaded to CPU", {"training.offload.activations": "all"}),
    ("no optimizer offload; activations offloaded to the CPU", {"training.offload.activations": "all"}),
    ("no activation offload; optimizer offloaded to CPU", {"training.offload.optimizer": "cpu"}),
    ("activation offloading enabled", {"training.offload.activations": "all"}),
    ("activation offload not used", {}),
    ("offloading off", {}),
    ("optimizer states in bf16", {"training.moment_dtype": "bf16"}),
    ("Adam moments in bf16", {"training.moment_dtype": "bf16"}),
    ("bf16 Adam moments", {"training.moment_dtype": "bf16"}),
    ("chunked loss, 8 chunks", {"training.loss_chunks": 8}),
    ("cross-entropy loss computed in 16 chunks", {"training.loss_chunks": 16}),
    ("document mask with mean length 1,024", {"training.mean_document_length": 1024}),
    ("intra-document masking, average document length 2048", {"training.mean_document_length": 2048}),
    ("MBS 2", {"training.micro_batch_size": 2}),
    ("microbatch size of 4", {"training.micro_batch_size": 4}),
    ("micro-batch=2", {"training.micro_batch_size": 2}),
    ("2 sequences per micro-batch", {"training.micro_batch_size": 2}),
    ("torch 2.7.1", {"pytorch": "2.7"}),
    ("PyTorch v2.5", {"pytorch": "2.5"}),
    ("pytorch 2.10", {"pytorch": "2.10"}),
    ("PyTorch nightly 2.8.0.dev", {"pytorch": "2.8"}),
    ("torch.cuda.max_memory_reserved", {"memory_quantity": "reserved"}),
    ("memory from nvidia-smi", {"memory_quantity": "used"}),
    ("peak allocated memory", {"memory_quantity": "allocated"}),
    ("peak reserved memory", {"memory_quantity": "reserved"}),
    (
        "CUDA graphs for the attention and router modules and DeepEP as dispatcher; expert TP was set to 1",
        {
            "parallelism.etp": 1,
            "training.experts.dispatcher": "deepep",
            "training.cuda_graphs": ["attn", "moe_router"],
        },
    ),
    (
        "Communication overlap for expert parallelism is enabled. CUDA Graphs enabled for the full step.",
        {"training.overlap.ep": True, "training.cuda_graphs": ["full_iteration"]},
    ),
    (
        "CUDA Graphs enabled (attn + moe_router + moe_preprocess).",
        {"training.cuda_graphs": ["attn", "moe_router", "moe_preprocess"]},
    ),
    (
        "recompute: mla_up_proj, moe_act and layernorm",
        {"training.recompute_modules": ["mla_up_proj", "moe_act", "layernorm"]},
    ),
    ("Token dropping is disabled", {}),
    ("CUDA graph: full iteration", {"training.cuda_graphs": ["full_iteration"]}),
    ("CUDA graph = attn, moe_router", {"training.cuda_graphs": ["attn", "moe_router"]}),
    ("graphs of the whole iteration", {"training.cuda_graphs": ["full_iteration"]}),
    ("TE CUDA graphs", {"training.cuda_graphs": ["attn", "mlp"]}),
    ("uses graph capture for the whole step", {"training.cuda_graphs": ["full_iteration"]}),
    ("TP2 for attention, TP1 for experts", {"parallelism.etp": 1}),
    ("MoE tensor parallel size 1", {"parallelism.etp": 1}),
    (
        "recomputation of 2 layers per stage",
        {
            "training.recompute": "full",
            "training.recompute_method": "block",
            "training.recompute_num_layers": 2,
        },
    ),
    (
        "block recompute of 4 layers",
        {
            "training.recompute": "full",
            "training.recompute_method": "block",
            "training.recompute_num_layers": 4,
        },
    ),
    (
        "recompute_num_layers=4 recompute_method=block recompute_granularity=full",
        {
            "training.recompute": "full",
            "training.recompute_method": "block",
            "training.recompute_num_layers": 4,
        },
    ),
    ("remat full", {"training.recompute": "full"}),
    ("activations are checkpointed", {"training.recompute": "full"}),
    ("optimizer states are kept on the CPU", {"training.offload.optimizer": "cpu"}),
    ("CPU offload of optimizer states", {"training.offload.optimizer": "cpu"}),
    (
        "CPU offloading of activations for 8 layers",
        {"training.offload.activations": "all", "training.offload.num_layers": 8},
    ),
    (
        "offload activations of 8 layers",
        {"training.offload.activations": "all", "training.offload.num_layers": 8},
    ),
    ("accumulates 4 micro-batches", {"training.micro_batch_size": 1}),
    ("per-device batch size 2", {"training.micro_batch_size": 2}),
    ("NeMo 25.09 container", {"version": "25.09"}),
    ("fp8 weights gathered", {"training.low_precision_params": True}),
    ("fp8 param gather on", {"training.low_precision_params": True}),
    ("CUDA graphs (not stated)", {}),
    ("batch 8 (MBS 1 likely)", {}),
    ("a sunny day in Iowa", {}),
]


def _row_for(notes: str) -> dict[str, object]:
    stack = "torchtitan" if "compil" in notes else "Megatron-Core"
    silent = {"recompute": None, "micro_batch": None}
    return row(**MOE, **silent, stack=stack, notes=notes)


@pytest.mark.parametrize(("notes", "keys"), WORDINGS, ids=[notes for notes, _ in WORDINGS])
def test_what_notes_say_in_plain_words_becomes_settings(notes: str, keys: Mapping[str, object]) -> None:
    settled_row = settle_row(RawRow("plain", "tests", _row_for(notes)))
    assert settled_row.keys == keys
    to_scenario(settled_row.row.parsed())


@given(st.lists(st.sampled_from([notes for notes, _ in WORDINGS]), max_size=4), st.sampled_from("x;\n"))
@examples(max_examples=60, deadline=None)
def test_settling_twice_changes_nothing(clauses: list[str], between: str) -> None:
    once = settle_row(RawRow("plain", "tests", _row_for(f"{between} ".join(clauses)))).row
    assert settle_row(once).keys == {}


def test_notes_of_settled_rows_do_not_matter() -> None:
    """All rows of the gate become the same scenario whatever their notes say afterwards."""
    for raw in read_rows([GATE]):
        content = dict(raw.content)  # type: ignore[call-overload]
        garbage = RawRow(
            raw.id, raw.source, {**content, "notes": "CUDA graphs on; ETP=1; torch.compile; DeepEP"}
        )
        assert row_document(garbage.parsed()) == row_document(raw.parsed())


def test_shipped_rows_are_settled() -> None:
    changed = [row.row.id for row in settle([validation.PUBLISHED, GATE], write=False) if row.keys]
    assert changed == []


def test_what_was_not_read_is_listed() -> None:
    notes = "CUDA graphs on; overlap flags are taken from a recipe; fine weather; expert TP not stated"
    unread = settle_row(RawRow("plain", "tests", _row_for(notes))).unread
    assert unread == ("overlap flags are taken from a recipe", "expert TP not stated")


def test_what_no_scenario_can_say_is_listed() -> None:
    pipelined = {**MOE, "parallel": {"tp": 1, "pp": 4, "vpp": 1, "ep": 4, "dp": 16}}
    settled_row = settle_row(RawRow("plain", "tests", row(**pipelined, notes="EP overlap ON")))
    assert settled_row.keys == {"training.overlap.ep": False}
    assert "several chunks" in settled_row.impossible[0]


UNSUPPORTED = [
    ("8-bit AdamW", "optimizer states of 8 bits"),
    ("Adafactor", "optimizer other than Adam"),
    ("LoRA of rank 16", "low-rank adapters"),
    ("500 W power limit", "power limit"),
    ("parameters offloaded to the CPU", "offload of parameters"),
    ("document mask used", "document mask of unknown document lengths"),
    ("chunked cross entropy", "number of chunks of the loss"),
    ("optimizer step fused into backward", "optimizer step in the backward pass"),
]


@pytest.mark.parametrize(("notes", "name"), UNSUPPORTED)
def test_what_has_no_setting_is_listed_by_name(notes: str, name: str) -> None:
    settled_row = settle_row(RawRow("plain", "tests", _row_for(notes)))
    assert [text.startswith(name) for text in settled_row.impossible] == [True]
    denied = settle_row(RawRow("plain", "tests", _row_for(f"no {notes}")))
    assert denied.impossible == ()


@pytest.mark.parametrize(
    ("notes", "keys"),
    [
        ("TP comm overlap on", {"training.overlap.tp": True}),
        ("no TP overlap", {"training.overlap.tp": False}),
        ("gradient reduction overlapped with backward", {"training.overlap.grad_reduce": True}),
        ("overlap_grad_reduce=True", {"training.overlap.grad_reduce": True}),
        ("DP overlap off", {"training.overlap.grad_reduce": False}),
        ("P2P communication overlapped", {"training.overlap.p2p": True}),
        ("overlap_p2p_comm False (may be overridden)", {}),
    ],
)
def test_overlap_is_read_where_the_row_leaves_it_open(notes: str, keys: Mapping[str, object]) -> None:
    silent = dict.fromkeys(("tp", "dp", "pp"))
    assert settle_row(RawRow("plain", "tests", row(overlap=silent, notes=notes))).keys == keys
    assert settle_row(RawRow("plain", "tests", row(notes=notes))).keys == {}


AFFIRMED = [
    "CUDA graphs",
    "full-iteration CUDA graph",
    "EP overlap",
    "MoE all-to-all overlap",
    "DeepEP",
    "torch.compile",
    "full activation checkpointing",
    "selective recompute",
    "activation offload",
    "optimizer offload",
]
DENIALS = [
    "no {}",
    "without {}",
    "{} is off",
    "{} was not used",
    "{}: disabled",
    "{} not stated",
    "whether {}",
]


@given(st.lists(st.tuples(st.sampled_from(AFFIRMED), st.sampled_from(DENIALS)), max_size=4))
@examples(max_examples=100, deadline=None)
def test_what_notes_deny_or_leave_open_is_never_switched_on(clauses: list[tuple[str, str]]) -> None:
    notes = "; ".join(denial.format(name) for name, denial in clauses)
    keys = settle_row(RawRow("plain", "tests", _row_for(notes))).keys
    off = {"training.cuda_graphs": [], "training.overlap.ep": False, "training.recompute": "none"}
    assert {key: value for key, value in keys.items() if value != off.get(key)} == {}


SETTINGS = {
    "parallelism.tp": 4,
    "parallelism.pp": 2,
    "parallelism.sequence_parallel": False,
    "parallelism.sharding": "zero3",
    "parallelism.schedule": "gpipe",
    "training.micro_batch_size": 2,
    "training.global_batch_size": 256,
    "training.seq_length": 4096,
    "training.precision": "fp8-current",
    "training.recompute": "full",
    "training.attention": "flash3",
    "training.overlap.grad_reduce": False,
    "training.overlap.tp": True,
    "cluster.gpus_per_node": 4,
    "model.num_hidden_layers": 16,
    "model.vocab_size": 64000,
    "model.tie_word_embeddings": True,
}
"""Each contradicts a field of the plain row."""


@given(st.sets(st.sampled_from(sorted(SETTINGS)), min_size=1, max_size=5))
@examples(max_examples=60, deadline=None)
def test_settings_win_over_every_field(paths: set[str]) -> None:
    chosen = {path: SETTINGS[path] for path in paths}
    document, _ = row_document(parsed(set=chosen))
    from_document(document)
    for path, value in chosen.items():
        section, _, key = path.partition(".")
        inner: object = document[section]
        for name in key.split("."):
            assert isinstance(inner, dict)
            inner = inner[name]
        assert inner == value
    tp_pp = {"parallelism.tp", "parallelism.pp"}
    if tp_pp & paths:
        parallelism = document["parallelism"]
        assert isinstance(parallelism, dict)
        assert parallelism["tp"] * parallelism["pp"] * parallelism["dp"] == 64


def test_every_field_of_a_setting_exists() -> None:
    plain = settled().parsed()
    for field in FIELD_OF.values():
        value: object = plain
        for name in field:
            assert hasattr(value, name)
            value = getattr(value, name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"training.cuda_graph": ["attn"]}, "did you mean 'training.cuda_graphs'"),
        ({"trainig": {"attention": "flash2"}}, "is not a setting"),
        (["training.attention"], "not a mapping"),
        ({"parallelism.tp": 2, "parallelism": {"tp": 4}}, "'parallelism.tp' is given twice"),
    ],
)
def test_a_wrong_setting_names_the_nearest_right_one(wrong: object, message: str) -> None:
    with pytest.raises(RowError, match=message):
        RawRow("plain", "tests", row(set=wrong)).parsed()


def test_a_wrong_set_is_listed_with_row_source_and_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [row(id="good"), row(id="first", set={"training.cuda_graph": ["attn"]})]
    wrong += [row(id="second", set={"parallelism": {"tp": 2, "tensor_model_parallel_size": 4}})]
    wrong += [row(id="third", parallel="tp8", set={"parallelism.pp": 2})]
    (tmp_path / "mine.yaml").write_text("".join(f"- {flow(content)}\n" for content in wrong), "utf-8")
    assert main(["validate", str(tmp_path), "--all", "--engine", "compiled"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "first mine wrong set: 'training.cuda_graph' is not a setting; did you mean" in text
    assert "second mine wrong set: parallelism.tp: 'tp' is given twice" in text
    assert "third mine row is malformed: parallel" in text
    assert main(["validate", str(tmp_path), "--show", "first"]) == 2
    assert "mine, row 'first': wrong set: 'training.cuda_graph'" in capsys.readouterr().err


def test_every_row_of_the_gate_survives_being_written_as_a_scenario_file() -> None:
    for raw in read_rows([GATE]):
        document, _ = row_document(raw.parsed())
        content = parse(yaml_text(document)).data
        assert isinstance(content, dict)
        assert from_document(content).digest() == from_document(document).digest()


def test_a_wrong_value_skips_the_row_with_its_path() -> None:
    outcome = validation.run.outcome(
        RawRow("plain", "tests", row(set={"training.cuda_graphs": ["atn"]})), Fixed
    )
    assert outcome.skipped is not None
    assert "training.cuda_graphs" in outcome.skipped


def test_rewriting_keeps_the_text_of_rows_and_their_comments() -> None:
    text = (
        "# one source\n- id: a  # first\n  gpus: 8\n  set: {training.attention: flash2}\n  notes: 'x; y'\n"
        "- {id: b, gpus: 8}\n- id: c\n  set:\n    training.precision: bf16\n  gpus: 8\n"
        "- id: d\n  notes: >-\n    long\n    text\n"
    )
    keys: list[Mapping[str, object]] = [
        {"training.cuda_graphs": ["attn"], "pytorch": "2.6"},
        {"software": "nemo"},
        {"training.recompute": "full"},
        {"parallelism.etp": 1},
    ]
    new = with_keys(text, "x.yaml", keys)
    rows = parse(new).data
    assert isinstance(rows, list)
    assert rows[0]["set"] == {"training.attention": "flash2", "training.cuda_graphs": ["attn"]}
    assert (rows[0]["pytorch"], rows[1]["set"], rows[3]["set"]) == (
        "2.6",
        {"software": "nemo"},
        {"parallelism.etp": 1},
    )
    assert rows[2]["set"] == {"training.precision": "bf16", "training.recompute": "full"}
    kept = [line for line in text.splitlines() if not line.startswith(("  set: {", "- {"))]
    assert [line for line in new.splitlines() if line in kept] == kept
    assert with_keys(new, "x.yaml", [{}, {}, {}, {}]) == new


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text",
    [
        "- id: a\n  REST\n  set: null\n  pytorch: ~\n  notes: NOTES\n",
        "- id: a\n  REST\n  set:\n  pytorch:\n  notes: NOTES\n",
        "- id: a\n  REST\n  notes: NOTES\n  set: {\n    training.attention: flash2,  # stated\n  }\n",
        "- id: a\n  REST\n  notes: NOTES\n  set: {}",
        "- notes: NOTES\n  REST\n  id: a",
        "-\n  id: a\n  REST\n  notes: >-\n    CUDA graphs on;\n    PyTorch 2.6\n\n# end\n",
        "- {id: a, FLOW, notes: NOTES, set: {training.attention: flash2}, }\n",
        "- no row\n-\n- id: a\n  REST\n  notes: NOTES\n",
    ],
)
def test_settled_files_keep_their_form_and_can_be_read(text: str, ends: str, tmp_path: Path) -> None:
    """Empty keys are filled rather than given twice, and lines end as they did."""
    file = tmp_path / "rows.yaml"
    rest = ("gpu: h100-80gb-sxm", "gpus: 8", "parallel: {tp: 1}", "measured: {mfu: 0.4}", "stack: nemo")
    text = text.replace("REST", "\n  ".join(rest)).replace("FLOW", ", ".join(rest))
    text = text.replace("NOTES", "'CUDA graphs on; PyTorch 2.6'")
    file.write_bytes(text.replace("\n", ends).encode())
    settle([file])
    new = file.read_bytes().decode()
    assert new.count("\n") == new.count(ends)
    row = read_rows([file])[-1].parsed()
    assert (row.settings["training.cuda_graphs"], row.pytorch) == (["attn", "mlp"], "2.6")
    assert "flash2" not in text or row.settings["training.attention"] == "flash2"
    assert "#" not in text or new.count("#") == text.count("#")
    assert [settled_row.keys for settled_row in settle([file])] == [{}] * len(read_rows([file]))


def test_the_command_settles_in_place_and_only_looks_with_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _row_for("CUDA graphs on; overlap of everything; 500 W power limit")
    file = tmp_path / "rows.yaml"
    file.write_text(f"- {flow(content)}\n", encoding="utf-8")
    before = file.read_text("utf-8")
    assert settle_main(["--check", str(tmp_path)]) == 0
    assert file.read_text("utf-8") == before
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 would change" in printed
    assert "not possible, the most frequent: 1 power limit" in printed
    assert "not read, the most frequent: 1 overlap of everything" in printed
    assert settle_main([str(tmp_path)]) == 0
    assert "training.cuda_graphs: [attn, mlp]" in capsys.readouterr().out
    assert read_rows([file])[0].parsed().settings["training.cuda_graphs"] == ["attn", "mlp"]
    assert settle_main([str(tmp_path / "missing.yaml")]) == 2


@pytest.mark.parametrize("identity", [raw.id for raw in read_rows([GATE])][::9])
def test_the_shown_scenario_of_a_row_predicts_the_same(
    identity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(GATE), "--show", identity]) == 0
    text = capsys.readouterr().out
    shown = shown_row([GATE], identity)
    content = parse(text).data
    assert isinstance(content, dict)
    assert from_document(content).digest() == from_document(shown.document).digest()
    assert all(f"# - {sentence}" in text for sentence in shown.assumptions)


def test_an_unknown_row_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    near = read_rows([GATE])[0].id
    assert main(["validate", str(GATE), "--show", near[:-1]]) == 2
    assert near in capsys.readouterr().err
