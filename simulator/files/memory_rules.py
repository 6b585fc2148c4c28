"""Rules of recomputation, offloading and number formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.scenario.training import number_format

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.memory_section import MemorySettings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model, Parallelism

_POLICIES = ("per_op", "save_attention", "save_qkv", "save_dots")


def check_memory_settings(file: ScenarioFile, model: Model | None, findings: Findings) -> None:
    """Check what cannot be: mixed policies, more 16-bit layers than layers."""
    training = file.training
    named = training.recompute_modules or []
    policies = [name for name in named if name in _POLICIES]
    if policies and len(named) > 1:
        findings.problem(
            "training.recompute",
            f"{policies[0]} says what happens to the whole layer: name it alone, not with "
            f"{', '.join(name for name in named if name != policies[0])}",
        )
    if model is None:
        return
    kept = training.bf16_layers_at_start + training.bf16_layers_at_end
    if kept > model.num_hidden_layers:
        findings.problem(
            "training.bf16_layers_at_end",
            f"{training.bf16_layers_at_start} + {training.bf16_layers_at_end} layers in bf16 are more than "
            f"the {model.num_hidden_layers} of {model.name}; nearest: "
            f"{max(0, model.num_hidden_layers - training.bf16_layers_at_start)}",
        )


def idle_memory_settings(
    file: ScenarioFile, degrees: Parallelism, model: Model
) -> tuple[tuple[bool, str, str], ...]:
    """Return settings with whether they change nothing, and why."""
    training = file.training
    return (
        *_idle_recompute(training, degrees),
        *_idle_modules(training, model),
        *_idle_offload(training, degrees),
        *_idle_formats(training),
    )


def _idle_recompute(training: MemorySettings, degrees: Parallelism) -> tuple[tuple[bool, str, str], ...]:
    kind = training.recompute
    saves = training.distribute_saved_activations
    return (
        (
            training.recompute_modules is not None and kind != "selective",
            "training.recompute_modules",
            f"recompute is {kind}, modules are named with selective",
        ),
        (
            training.recompute_method is not None and kind != "full",
            "training.recompute_method",
            f"recompute is {kind}, layers are counted with full",
        ),
        (
            training.recompute_num_layers is not None and kind != "full",
            "training.recompute_num_layers",
            f"recompute is {kind}, layers are counted with full",
        ),
        (saves and kind != "full", "training.distribute_saved_activations", f"recompute is {kind}"),
        (
            saves and kind == "full" and (degrees.tp == 1 or degrees.sequence_parallel),
            "training.distribute_saved_activations",
            "inputs are divided already" if degrees.sequence_parallel else "tp is 1",
        ),
    )


def _idle_modules(training: MemorySettings, model: Model) -> tuple[tuple[bool, str, str], ...]:
    """Return the modules named that no layer has."""
    named = training.recompute_modules or ()
    if training.recompute != "selective":
        return ()
    experts = model.experts
    dense = any(not model.is_moe_layer(layer) for layer in range(model.num_hidden_layers))
    lacks = {
        "mla_up_proj": (model.latent_attention is None, "the model has no latent attention"),
        "moe": (experts is None, "the model has no experts"),
        "moe_act": (experts is None, "the model has no experts"),
        "shared_experts": (
            experts is None or not experts.num_shared_experts,
            "the model has no shared experts",
        ),
        "mlp": (not dense, "every layer has experts"),
    }
    return tuple(
        (lacks[name][0], f"training.recompute_modules: {name}", lacks[name][1])
        for name in named
        if name in lacks
    )


def _idle_offload(training: MemorySettings, degrees: Parallelism) -> tuple[tuple[bool, str, str], ...]:
    offload = training.offload
    given = offload.model_fields_set
    has_activations = offload.activations not in ("none", [])
    last = max(degrees.stage_layers, default=0) <= 1 and offload.num_layers is None
    return (
        (
            has_activations and last,
            "training.offload.activations",
            "a stage's only layer is not offloaded: its backward pass comes at once",
        ),
        (
            "num_layers" in given and not has_activations,
            "training.offload.num_layers",
            "no activations are offloaded",
        ),
        (
            "optimizer_fraction" in given and offload.optimizer == "none",
            "training.offload.optimizer_fraction",
            "the optimizer is not offloaded",
        ),
        (
            "optimizer_overlap" in given and offload.optimizer == "none",
            "training.offload.optimizer_overlap",
            "the optimizer is not offloaded",
        ),
    )


def _idle_formats(training: MemorySettings) -> tuple[tuple[bool, str, str], ...]:
    is_low = number_format(training.precision) in {"fp8", "fp4"}
    why = f"precision is {training.precision}"
    return (
        (bool(training.bf16_layers_at_start) and not is_low, "training.bf16_layers_at_start", why),
        (bool(training.bf16_layers_at_end) and not is_low, "training.bf16_layers_at_end", why),
        (training.low_precision_params and not is_low, "training.low_precision_params", why),
    )
