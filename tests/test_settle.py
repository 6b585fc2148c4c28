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
        {"training.experts.capacity_factor": 1.25, "training.experts.pad_to_capacity": True},
    ),
    (
        "token-dropping",
        {"training.experts.capacity_factor": 1.0, "training.experts.pad_to_capacity": True},
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
    ("a sunny day in Iowa", {}),
]


def _row_for(notes: str) -> dict[str, object]:
    stack = "torchtitan" if "compile" in notes else "Megatron-Core"
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
    ],
)
def test_a_wrong_setting_names_the_nearest_right_one(wrong: object, message: str) -> None:
    with pytest.raises(RowError, match=message):
        RawRow("plain", "tests", row(set=wrong)).parsed()


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


def test_the_command_settles_in_place_and_only_looks_with_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = _row_for("CUDA graphs on; overlap of everything")
    file = tmp_path / "rows.yaml"
    file.write_text(f"- {flow(content)}\n", encoding="utf-8")
    before = file.read_text("utf-8")
    assert settle_main(["--check", str(tmp_path)]) == 0
    assert file.read_text("utf-8") == before
    assert "1 would change" in capsys.readouterr().out
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
