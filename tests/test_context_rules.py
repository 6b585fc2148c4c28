"""Settings of tensor and context parallelism in scenario files: defaults, errors and warnings."""

from __future__ import annotations

import pytest

from simulator.errors import ScenarioError
from simulator.files import from_document

WINDOWED = "mistral-7b"


def document(**settings: object) -> dict[str, object]:
    """Return a scenario of 8 GPUs; dotted settings as ``parallelism__cp=2``."""
    content: dict[str, dict[str, object]] = {
        "cluster": {"gpu": "h100-80gb-sxm", "gpus": 8},
        "parallelism": {},
        "training": {"seq_length": 8192, "global_batch_size": 16},
    }
    whole: dict[str, object] = {"model": "llama3-8b", "software": "megatron-core", **content}
    for path, value in settings.items():
        section, _, key = path.partition("__")
        if key:
            content[section][key] = value
        else:
            whole[section] = value
    return whole


@pytest.mark.parametrize(
    ("software", "comm"),
    [
        ("megatron-core", "ring"),
        ("nemo", "ring"),
        ("torchtitan", "all_gather"),
        ("meta-llama3", "all_gather"),
    ],
)
def test_each_stack_has_its_exchange(software: str, comm: str) -> None:
    assert from_document(document(software=software, parallelism__cp=2), "x").parallelism.cp_comm == comm


@pytest.mark.parametrize(
    ("theirs", "ours"), [("p2p", "ring"), ("a2a", "all_to_all"), ("all_gather", "all_gather")]
)
def test_megatron_s_names_are_understood(theirs: str, ours: str) -> None:
    scenario = from_document(document(parallelism__cp=2, parallelism__cp_comm_type=theirs), "x")
    assert scenario.parallelism.cp_comm == ours


def test_a_window_stands_in_for_the_ring_that_nobody_asked_for() -> None:
    scenario = from_document(document(model=WINDOWED, parallelism__cp=2), "x")
    assert scenario.parallelism.cp_comm == "all_gather"
    assert any("sliding windows" in warning for warning in scenario.warnings)


def test_heads_that_do_not_divide_gather_where_nobody_asked_for_an_exchange() -> None:
    software = {"like": "megatron-core", "cp_comm": "all_to_all"}
    scenario = from_document(document(software=software, parallelism__cp=2, parallelism__tp=4), "x")
    assert scenario.parallelism.cp_comm == "all_to_all"
    wider = document(software=software, parallelism__cp=8, cluster={"gpu": "h100-80gb-sxm", "gpus": 16})
    assert from_document(wider, "x").parallelism.cp_comm == "all_to_all"
    divided = document(
        software=software, parallelism__cp=4, parallelism__tp=4, cluster={"gpu": "h100-80gb-sxm", "gpus": 16}
    )
    scenario = from_document(divided, "x")
    assert scenario.parallelism.cp_comm == "all_gather"
    assert any("cannot divide the key-value heads" in warning for warning in scenario.warnings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": WINDOWED, "parallelism__cp_comm": "ring"}, "use cp_comm: all_gather or all_to_all"),
        ({"parallelism__cp_comm": "ring", "training__attention": "unfused"}, "needs a fused attention"),
        ({"parallelism__cp_comm": "all_to_all", "parallelism__tp": 4}, "4 ranks must divide"),
        ({"parallelism__cp_comm": "hierarchical"}, "needs cp_heads"),
        ({"parallelism__cp_comm": "hierarchical", "parallelism__cp_heads": 3}, "nearest: 2"),
        ({"training__seq_length": 8190, "parallelism__cp_balance": False}, "no multiple of cp = 4"),
    ],
)
def test_what_cannot_be_exchanged_is_a_clear_error(settings: dict[str, object], message: str) -> None:
    if settings.get("parallelism__tp") == 4:
        settings |= {"cluster": {"gpu": "h100-80gb-sxm", "gpus": 16}}
    with pytest.raises(ScenarioError, match=message):
        from_document(document(parallelism__cp=4, **settings), "x")


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"parallelism__cp_balance": False}, "parallelism.cp_balance"),
        ({"parallelism__cp_heads": 2, "parallelism__cp": 2}, "parallelism.cp_heads"),
        (
            {"parallelism__cp": 2, "parallelism__cp_comm": "all_to_all", "parallelism__cp_balance": False},
            "parallelism.cp_balance",
        ),
        (
            {
                "parallelism__tp": 2,
                "parallelism__sequence_parallel": False,
                "training__overlap": {"tp": True},
            },
            "training.overlap.tp",
        ),
        (
            {"training__attention": "unfused", "training__mean_document_length": 100},
            "training.mean_document_length",
        ),
        ({"model": WINDOWED, "training__seq_length": 4096}, "model.sliding_window"),
    ],
)
def test_a_setting_without_effect_warns_by_name(settings: dict[str, object], path: str) -> None:
    warnings = from_document(document(**settings), "x").warnings
    assert any(warning.startswith(f"{path} has no effect") for warning in warnings)
