"""What the rules of scenario files accept can be simulated: ``check`` accepts nothing that ``run`` refuses.

Documents are drawn over the whole schema: some of the examples of ``field_examples`` with what they need, on
top of random degrees, schedules, GPUs, stacks, kernels and number formats.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from simulator import api, catalogue, files
from simulator.errors import ScenarioError

from .field_examples import BASE, DENSE, EXAMPLES, EXPERTS, LATENT, MAMBA
from .test_every_field import document, put

MODELS: tuple[dict[str, object], ...] = (
    DENSE,
    {**DENSE, "num_key_value_heads": 2},
    {**DENSE, "experts": EXPERTS},
    {**DENSE, "experts": {**EXPERTS, "num_shared_experts": 1, "first_k_dense_replace": 1}},
    {**DENSE, "num_nextn_predict_layers": 1, "tie_word_embeddings": True},
    {**DENSE, "sliding_window": 512},
    LATENT,
    MAMBA,
    {**MAMBA, "layer_pattern": "MMMM"},
)
CHOICES: dict[str, list[object]] = {
    "cluster.gpu": sorted(catalogue.names("gpus")),
    "software": sorted(catalogue.names("software")),
    "model": list(MODELS),
    "training.precision": ["fp32", "tf32", "fp16", "fp8", "fp8-blockwise", "fp8-mx", "nvfp4"],
    "training.attention": ["unfused", "flash1", "flash2", "flash3", "cudnn"],
    "parallelism.tp": [2, 4, 8],
    "parallelism.pp": [2, 4],
    "parallelism.vpp": [2],
    "parallelism.cp": [2, 4],
    "parallelism.ep": [2, 4, 8],
    "parallelism.etp": [1, 2],
    "parallelism.schedule": [
        "gpipe",
        "1f1b",
        "interleaved",
        "zb-h1",
        "zb-v",
        "dualpipe",
        "dualpipe-v",
        "v-half",
    ],
    "parallelism.layers": ["even", "lighter-ends", "balanced", [1, 1, 2, 0], [3, 1]],
    "parallelism.sharding": ["zero1", "zero2", "zero3", "shard_grad_op", "hybrid"],
    "parallelism.sequence_parallel": [True, False],
    "parallelism.cp_comm": ["all_gather", "ring", "all_to_all", "hierarchical"],
    "parallelism.vocabulary": ["vocab-1", "vocab-2", "interlaced"],
    "training.overlap.ep": [True],
    "training.recompute": ["selective", "full"],
    "training.experts.dispatcher": ["alltoall", "allgather", "deepep", "hybridep"],
    "training.loss_chunks": [3, 8],
}
"""What a scenario may say of the layout and the hardware, beside the examples of every field."""

HARDWARE = ("cluster.gpu", "software", "training.attention")
"""What decides together whether a kernel exists; drawn together in every second document."""


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a document."""
    content = document(BASE)
    for path in draw(st.lists(st.sampled_from(sorted(EXAMPLES)), max_size=3, unique=True)):
        setting, value = EXAMPLES[path]
        for key, needed in (*setting.items(), (path, value)):
            _put(content, key, needed)
    paths = draw(st.lists(st.sampled_from(sorted(CHOICES)), max_size=5, unique=True))
    for path in dict.fromkeys([*draw(st.sampled_from([(), HARDWARE])), *paths]):
        _put(content, path, draw(st.sampled_from(CHOICES[path])))
    return content


def _put(content: dict[str, Any], path: str, value: object) -> None:
    """Set a value, unless another choice has left no place for it (an item of a list that is not there)."""
    try:
        put(content, path.split("."), copy.deepcopy(value))
    except (KeyError, TypeError, AttributeError, IndexError):
        return


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_what_check_accepts_run_simulates(content: dict[str, Any]) -> None:
    try:
        scenario = files.from_document(content, "drawn")
        api.estimate_memory(scenario)
    except ScenarioError:
        event("refused")
        return
    event("simulated")
    result = api.simulate(scenario)
    assert result.metrics["step_time_s"] > 0
