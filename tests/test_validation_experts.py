"""What published rows of models with experts leave unsaid, and what older releases of their stack did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from published_rows import parsed

from simulator.validation.to_scenario import to_scenario

if TYPE_CHECKING:
    from simulator.scenario import Scenario

EXPERTS = {"experts": 8, "topk": 2, "expert_ffn": 14336, "moe_layers": 32}
EARLY = "PyTorch 2.5 / CUDA 12.6"


def scenario(**changes: object) -> Scenario:
    return to_scenario(parsed(arch=EXPERTS, **changes))[0]


@pytest.mark.parametrize(
    ("changes", "chunks"),
    [
        ({"schedule": None}, 8),
        ({"schedule": "1f1b"}, 1),
        ({"schedule": None, "parallel": {"vpp": 2}}, 2),
        ({"schedule": None, "global_batch": 48}, 1),  # 6 micro-batches do not fill 4 stages evenly
        ({"schedule": None, "stack": "NeMo 25.02"}, 1),
    ],
)
def test_pipelines_with_experts_interleave_where_nothing_is_said(
    changes: dict[str, object], chunks: int
) -> None:
    assert scenario(**changes).parallelism.vpp == chunks


def test_releases_before_transformer_engine_2_1_permute_eagerly() -> None:
    kernels = {"router", "permute"}
    assert scenario().software.fused >= kernels
    early = scenario(notes=EARLY).software
    assert not early.fused & kernels
    assert early.kernel_launch_s == scenario().software.kernel_launch_s


def test_one_hardware_queue_exposes_the_gradients_of_sharded_weights() -> None:
    sharded = {"pp": 1, "dp": 32, "zero": 3, "fsdp": "full_shard"}
    unsaid = {"parallel": sharded, "overlap": {"tp": None, "dp": None, "pp": None}}
    today = scenario(**unsaid).training.overlap
    early = scenario(**unsaid, notes=EARLY).training.overlap
    assert (today.grad_reduce, today.param_gather) == (True, True)
    assert (early.grad_reduce, early.param_gather) == (False, True)
    stated = {"parallel": sharded, "overlap": {"dp": True}}
    assert scenario(**stated, notes=EARLY).training.overlap.grad_reduce


def test_notes_that_begin_with_a_commit_name_the_software() -> None:
    other = {"stack": "see notes", "source": "MegaScale-MoE, Table 3"}
    assert parsed(**other, notes="Megatron-LM f1f03922 with TP=8").software == "megatron-core"
    assert parsed(**other, notes="ours, not Megatron-LM f1f03922").software == other["source"]


def test_deepseeks_own_trainer_sends_fp8_tokens_once_per_node() -> None:
    parallel = {"tp": 1, "pp": 1, "dp": 64, "ep": 64}
    arch = {**EXPERTS, "experts": 64}
    row = parsed(stack="see notes", model="deepseek-v3", gpu="h800-80gb", parallel=parallel, arch=arch)
    experts = to_scenario(row)[0].training.experts
    assert (experts.dispatcher, experts.dispatch_dtype) == ("deepep", "fp8")


def test_the_recipe_of_a_release_says_what_ran_where_its_table_differs() -> None:
    differs = "closest perf recipe X @ v0.3.1 differs from the table in "
    layout = "{'pipeline_model_parallel_size': 1, 'virtual_pipeline_model_parallel_size': None}"
    ran = scenario(notes=differs + layout).parallelism
    assert (ran.pp, ran.vpp, ran.dp) == (1, 1, 4 * scenario().parallelism.dp)
    other_run = scenario(notes=differs + layout.replace("}", ", 'num_gpus': 128}")).parallelism
    assert other_run.pp == scenario().parallelism.pp


def test_pipelines_quote_or_fill_their_stages() -> None:
    odd = {"arch": {**EXPERTS, "layers": 31, "moe_layers": 31}, "parallel": {"pp": 4, "vpp": 2}}
    filled = to_scenario(parsed(**odd))[0]
    assert filled.parallelism.stage_layers == (4, 4, 4, 4, 4, 4, 4, 3)
    quoted = to_scenario(parsed(**odd, notes="(layout Et*3|(t*4|)*6t*4L)"))[0]
    assert quoted.parallelism.stage_layers == (3, 4, 4, 4, 4, 4, 4, 4)


def test_shared_experts_run_beside_an_all_to_all_only() -> None:
    shared = {"arch": {**EXPERTS, "shared_experts": 1}, "parallel": {"ep": 4}}
    overlap = [
        to_scenario(parsed(**shared, notes=notes))[0].training.overlap.shared_experts
        for notes in ("", "MoE dispatcher deepep", "EP all-to-all overlap ON")
    ]
    assert overlap == [True, False, False]
