"""Rules of the model and the GPU: what must divide what, and which number formats there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.expert_rules import check_experts
from simulator.files.report import Findings, nearest_divisors

if TYPE_CHECKING:
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model


def check_model(file: ScenarioFile, model: Model, findings: Findings) -> None:
    """Check that tp, ep and etp divide what they are meant to divide."""
    tp = file.parallelism.tp
    heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
    if heads % tp:
        findings.problem(
            "parallelism.tp",
            f"tp = {tp} does not divide the {heads} attention heads of {model.name}; "
            f"nearest: {nearest_divisors(heads, tp)}",
        )
    elif kv_heads % tp and tp % kv_heads:
        findings.problem(
            "parallelism.tp",
            f"tp = {tp} and the {kv_heads} key-value heads of {model.name} do not divide each other; "
            f"nearest: {nearest_divisors(kv_heads, tp)}",
        )
    has_dense_layers = not all(map(model.is_moe_layer, range(model.num_hidden_layers)))
    if has_dense_layers and model.intermediate_size % tp:
        _width(tp, model.intermediate_size, "intermediate_size", findings)
    check_experts(file, model, findings)


def _width(tp: int, width: int, key: str, findings: Findings) -> None:
    near = nearest_divisors(width, tp)
    findings.problem("parallelism.tp", f"tp = {tp} does not divide the {key} of {width}; nearest: {near}")
