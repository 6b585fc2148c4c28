"""Settings of experts without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.rules.experts import PAIRED

if TYPE_CHECKING:
    from simulator.files.findings import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Model, Parallelism


def warn_experts(file: ScenarioFile, degrees: Parallelism, model: Model, findings: Findings) -> None:
    """Note every setting of experts that changes nothing."""
    for is_idle, path, why in _settings(file, degrees, model):
        if is_idle:
            findings.warn(f"{path} has no effect: {why}")


def _settings(file: ScenarioFile, degrees: Parallelism, model: Model) -> tuple[tuple[bool, str, str], ...]:
    """Return expert settings that may be idle: whether they are, their path, and why."""
    section, overlap = file.training.experts, file.training.overlap
    given = section.model_fields_set
    none = model.experts is None
    alone = none or degrees.ep == 1
    why = "the model has no experts" if none else "ep is 1"
    idle: list[tuple[bool, str, str]] = [
        (none and name in given, f"training.experts.{name}", why)
        for name in ("load_imbalance", "capacity_factor", "grouped_gemm")
    ]
    idle += [
        (alone and name in given, f"training.experts.{name}", why)
        for name in ("dispatcher", "dispatch_dtype")
    ]
    idle.append((none and file.parallelism.etp is not None, "parallelism.etp", why))
    idle.append((bool(overlap.ep) and alone, "training.overlap.ep", why))
    other = f"schedule {degrees.schedule} does not pair passes that way"
    idle.append((bool(overlap.ep) and degrees.schedule not in PAIRED, "training.overlap.ep", other))
    no_shared = alone or not (model.experts and model.experts.num_shared_experts)
    idle.append(
        (
            bool(overlap.shared_experts) and no_shared,
            "training.overlap.shared_experts",
            why if alone else "the model has no shared experts",
        )
    )
    bound = section.capacity_factor is not None and not section.pad_to_capacity
    imbalance = section.to_scenario("alltoall").load_imbalance
    idle += [
        (
            bound and not none and (section.capacity_factor or 0) >= imbalance,
            "training.experts.capacity_factor",
            f"no expert is loaded beyond it: load_imbalance is {imbalance:g}",
        ),
        (
            section.pad_to_capacity and section.capacity_factor is None,
            "training.experts.pad_to_capacity",
            "no capacity_factor is set",
        ),
    ]
    return tuple(idle)
