"""Rules of experts: their mesh against the other one, what must divide what, settings without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.files.report import nearest_divisors

PAIRED = frozenset({"1f1b", "interleaved"})
"""Schedules whose passes run in pairs to hide exchanges (simulator.schedules.in_pairs)."""

if TYPE_CHECKING:
    from simulator.files.report import Findings
    from simulator.files.scenario_file import ScenarioFile
    from simulator.scenario import Experts, Model, Parallelism


def check_expert_mesh(file: ScenarioFile, dp: int, findings: Findings) -> None:
    """Check that the ranks of a pipeline stage fold into the experts' mesh."""
    degrees = file.parallelism
    etp = degrees.tp if degrees.etp is None else degrees.etp
    ranks = dp * degrees.cp * degrees.tp
    if ranks % (etp * degrees.ep):
        product = f"dp x cp x tp = {dp} x {degrees.cp} x {degrees.tp} = {ranks}"
        if ranks % etp:
            near = nearest_divisors(ranks, etp)
            findings.problem("parallelism.etp", f"etp = {etp} must divide {product}; nearest: {near}")
        else:
            near = nearest_divisors(ranks // etp, degrees.ep)
            findings.problem(
                "parallelism.ep",
                f"ep x etp = {degrees.ep} x {etp} = {degrees.ep * etp} must divide {product}; "
                f"nearest ep: {near}",
            )
    if etp != degrees.tp and degrees.tp > 1 and degrees.sequence_parallel is False:
        findings.problem(
            "parallelism.etp",
            f"etp = {etp} differs from tp = {degrees.tp}, which needs sequence_parallel: without it all "
            f"tensor-parallel ranks route the same tokens; use etp: {degrees.tp}",
        )


def check_experts(file: ScenarioFile, model: Model, findings: Findings) -> None:
    """Check the experts' degrees against the model, and what runs beside what."""
    degrees, overlap = file.parallelism, file.training.overlap
    ep, etp = degrees.ep, degrees.tp if degrees.etp is None else degrees.etp
    if model.experts is None:
        if ep > 1:
            findings.problem("parallelism.ep", f"ep = {ep}, but {model.name} has no experts; use ep: 1")
        return
    _divides(model.experts.num_experts, ep, "ep", f"experts of {model.name}", findings)
    width = model.experts.moe_intermediate_size
    key = "tp" if degrees.etp is None else "etp"
    if width % etp:
        findings.problem(
            f"parallelism.{key}",
            f"{key} = {etp} does not divide the moe_intermediate_size of {width}; "
            f"nearest: {nearest_divisors(width, etp)}",
        )
    _check_shared(model.experts, degrees.tp, width, findings)
    if overlap.ep and degrees.pp > 1 and degrees.vpp == 1 and degrees.schedule in {None, "1f1b"}:
        findings.problem(
            "training.overlap.ep",
            "hiding exchanges behind another micro-batch needs vpp of 2 or more where pp > 1: with one chunk "
            "per rank, neighbouring ranks would wait for each other in turn (Megatron-Core's rule)",
        )
    if overlap.ep and overlap.shared_experts:
        findings.problem(
            "training.overlap.shared_experts",
            "shared experts cannot run beside exchanges that another micro-batch already hides "
            "(Megatron-Core's rule); set one of overlap.ep and overlap.shared_experts",
        )


def _divides(number: int, degree: int, key: str, what: str, findings: Findings) -> None:
    if number % degree:
        near = nearest_divisors(number, degree)
        findings.problem(
            f"parallelism.{key}", f"{key} = {degree} does not divide the {number} {what}; nearest: {near}"
        )


def _check_shared(experts: Experts, tp: int, width: int, findings: Findings) -> None:
    shared = experts.num_shared_experts * width
    if shared % tp:
        findings.problem(
            "parallelism.tp",
            f"tp = {tp} does not divide the {shared} channels of the shared experts; "
            f"nearest: {nearest_divisors(shared, tp)}",
        )


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
