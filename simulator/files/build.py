"""A checked document as a scenario."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simulator import catalogue
from simulator.documents import Document, validate
from simulator.errors import CatalogueError, ScenarioError
from simulator.files.base import beside
from simulator.files.cluster_rules import check_cluster
from simulator.files.clusters import cluster_of, gpu_of, software_of
from simulator.files.context_rules import with_context
from simulator.files.effect_rules import warn
from simulator.files.expert_rules import warn_experts
from simulator.files.findings import Findings
from simulator.files.hugging_face import read_config
from simulator.files.layers import stage_layers
from simulator.files.memory_rules import check_memory_settings
from simulator.files.named import HuggingFaceModel
from simulator.files.noise_section import NoiseSection, noise
from simulator.files.rules import OF_LAYOUT, OF_MODEL, broken, check, facts_of, hardware
from simulator.files.rules.batch import BATCH_DIVIDES
from simulator.files.rules.degrees import FILLS_GPUS
from simulator.files.scenario_file import ScenarioFile
from simulator.files.schedule_rules import (
    check_chunks,
    check_microbatches,
    check_vocabulary,
    post_validates,
    schedule_name,
    schedule_rows,
)
from simulator.files.searches import search, usual_search
from simulator.files.sharding_rules import with_sharding
from simulator.files.sweeps import measured, sweep
from simulator.scenario import (
    Model,
    Overlap,
    Parallelism,
    Scenario,
    Software,
    Training,
)
from simulator.scenario.search import AXES
from simulator.scenario.sharding import sharding_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from simulator.files.sections import TrainingSection


def build(document: Document, default_name: str, *, searched: bool = False) -> Scenario:
    """Return the scenario that a document describes, in the schema's spelling and without a base.

    Args:
        document: The document.
        default_name: Name of the scenario where it has none.
        searched: Whether what its search chooses need not be possible as it stands there.

    Raises:
        ScenarioError: All problems with it.
    """
    file = validate(document, ScenarioFile)
    findings = Findings(document)
    drawn = sweep(file.sweep, findings)
    wanted = search(file, document, findings)
    model = model_of(file, findings)
    if searched:
        free = (wanted or usual_search(file, document, findings)).free
        scenario = _before_search(file, findings, default_name, model, free)
    else:
        scenario = scenario_of(file, findings, default_name, model)
    return replace(scenario, sweep=drawn, search=wanted, document=_self_contained(document))


def scenario_of(
    file: ScenarioFile,
    findings: Findings,
    default_name: str,
    model: Model | None,
    *,
    warns: bool = True,
    checks: bool = True,
) -> Scenario:
    """Return the scenario that valid settings describe, without what is to be explored.

    Args:
        file: The settings.
        findings: Where problems and warnings are noted.
        default_name: Name where the file has none.
        model: The file's model; None where it cannot be read, which is then among the findings.
        warns: Whether to look for what the user should know; takes as long as everything else.
        checks: Whether any problem is an error, or only one that leaves no scenario.

    Raises:
        ScenarioError: All problems.
    """
    check_settings(file, model, findings)
    noisy = noise(file.simulation.noise or NoiseSection(), file.cluster.gpus, findings)
    parallelism = _parallelism(file, model, findings)
    if model is None or parallelism is None or (checks and findings.problems):
        raise ScenarioError(findings.problems)
    cluster = cluster_of(file.cluster)
    software = software_of(file.software)
    training = _training(file.training, software, parallelism.schedule)
    parallelism = with_context(parallelism, file, model, training, software, findings)
    parallelism = with_sharding(parallelism, file.parallelism, cluster, software)
    if warns:
        warn(file, cluster, parallelism, model, findings)
        warn_experts(file, parallelism, model, findings)
    return Scenario(
        name=file.name or default_name,
        cluster=cluster,
        model=model,
        parallelism=parallelism,
        training=training,
        software=software,
        seed=file.simulation.seed,
        noise=noisy,
        engine=file.simulation.engine,
        measured=measured(file.measured),
        warnings=tuple(findings.warnings),
    )


def _before_search(
    file: ScenarioFile,
    findings: Findings,
    default_name: str,
    model: Model | None,
    free: Collection[str],
) -> Scenario:
    """Return the scenario of a search: as the file has it or, if that is impossible, plain where it is free.

    Raises:
        ScenarioError: All problems with settings that the search leaves as they are.
    """
    check_settings(file, model, findings)
    noise(file.simulation.noise or NoiseSection(), file.cluster.gpus, findings)
    if findings.problems:
        raise ScenarioError(findings.problems)
    try:
        return scenario_of(file, Findings(findings.document), default_name, model)
    except ScenarioError:
        plain = _plain(file, free)
        scenario = scenario_of(plain, findings, default_name, model, warns=False, checks=False)
    fixed = set(AXES.values()).difference(free)
    if problems := [problem for problem in findings.problems if problem.path in fixed]:
        raise ScenarioError(problems) from None
    return scenario


def _plain(file: ScenarioFile, free: Collection[str]) -> ScenarioFile:
    """Return a file with the defaults of its free settings of parallelism."""
    fields = type(file.parallelism).model_fields
    usual = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if f"parallelism.{name}" in free
    }
    return file.model_copy(update={"parallelism": file.parallelism.model_copy(update=usual)})


def check_settings(file: ScenarioFile, model: Model | None, findings: Findings) -> None:
    """Check what does not depend on the layout."""
    check_cluster(file, findings)
    for choice in [pool.gpu for pool in file.cluster.pools] or [file.cluster.gpu]:
        given = {"gpu": gpu_of(choice), "stack": software_of(file.software)}
        check(hardware.RULES, facts_of(file, model, given), findings)
    check_memory_settings(file, model, findings)


def model_of(file: ScenarioFile, findings: Findings) -> Model | None:
    """Return the model of a file; None where its description cannot be used, which is then a problem."""
    if isinstance(file.model, str):
        return catalogue.model(file.model)
    if not isinstance(file.model, HuggingFaceModel):
        return file.model.to_scenario("model")
    place = findings.document.value_place(("model", "hf_config"))
    try:
        return read_config(beside(place, file.model.hf_config))
    except ScenarioError as error:
        for problem in error.problems:
            text = ": ".join(part for part in (problem.file, problem.path, problem.message) if part)
            findings.problem("model.hf_config", text)
        return None


def _parallelism(file: ScenarioFile, model: Model | None, findings: Findings) -> Parallelism | None:
    section, facts = file.parallelism, facts_of(file, model)
    check(OF_LAYOUT, facts, findings)
    check_chunks(file, findings)
    dp: int | None = None if any(broken(FILLS_GPUS, facts)) else facts["dp"]
    if dp is not None and not any(broken([BATCH_DIVIDES], facts)):
        check_microbatches(file, dp, facts["microbatches"], findings)
    if model is None:
        return None
    check(OF_MODEL, facts, findings)
    check_vocabulary(file, model, findings)
    layers = stage_layers(file, model.num_hidden_layers, findings) if dp is not None else ()
    if dp is None:
        return None
    rows = schedule_rows(file, dp, findings)
    sequence_parallel = section.tp > 1 if section.sequence_parallel is None else section.sequence_parallel
    return Parallelism(
        tp=section.tp,
        pp=section.pp,
        vpp=section.vpp,
        cp=section.cp,
        ep=section.ep,
        etp=section.etp,
        dp=dp,
        sequence_parallel=sequence_parallel and section.tp > 1,
        schedule=schedule_name(section),
        schedule_rows=rows,
        microbatch_group_size=section.microbatch_group_size,
        vocabulary=section.vocabulary,
        sharding=sharding_of(section.sharding),
        stage_layers=layers,
        placement=tuple(section.placement),
    )


def _training(section: TrainingSection, software: Software, schedule: str) -> Training:
    given, habits = section.overlap, software.overlap
    post_validation = section.post_validation
    return Training(
        seq_length=section.seq_length,
        micro_batch_size=section.micro_batch_size,
        global_batch_size=section.global_batch_size,
        precision=section.precision,
        recompute=section.recompute,
        attention=section.attention or software.attention,
        grad_dtype=section.grad_dtype or _grad_dtype(software, section.precision),
        overlap=Overlap(
            grad_reduce=habits.grad_reduce if given.grad_reduce is None else given.grad_reduce,
            param_gather=habits.param_gather if given.param_gather is None else given.param_gather,
            p2p=habits.p2p if given.p2p is None else given.p2p,
            tp=habits.tp if given.tp is None else given.tp,
            ep=habits.ep if given.ep is None else given.ep,
            shared_experts=habits.shared_experts if given.shared_experts is None else given.shared_experts,
        ),
        tokens=section.tokens,
        mean_document_length=section.mean_document_length,
        loss_chunks=section.loss_chunks,
        experts=section.experts.to_scenario(software.dispatcher),
        cuda_graphs=tuple(section.cuda_graphs),
        param_dtype=section.param_dtype,
        reduce_dtype=section.reduce_dtype or software.reduce_dtype,
        recompute_detail=section.recompute_detail(software),
        offload=section.offload.to_scenario(),
        bf16_layers_at_start=section.bf16_layers_at_start,
        bf16_layers_at_end=section.bf16_layers_at_end,
        low_precision_params=section.low_precision_params,
        master_dtype=section.master_dtype,
        moment_dtype=section.moment_dtype,
        post_validation=post_validates(schedule) if post_validation is None else post_validation,
    )


def _grad_dtype(software: Software, precision: str) -> Literal["fp32", "bf16", "fp16"]:
    habit = software.grad_dtype
    if precision == "fp16" and software.fp16_grad_dtype is not None:
        habit = software.fp16_grad_dtype
    for dtype in ("fp32", "bf16", "fp16"):
        if habit == dtype:
            return dtype
    raise CatalogueError(f"{software.name} accumulates gradients in an unknown format {habit!r}")


def _self_contained(document: Document) -> dict[str, object]:
    """Return the content without paths that hold only beside the file."""
    data = dict(document.data) if isinstance(document.data, dict) else {}
    model = data.get("model")
    if isinstance(model, dict) and "hf_config" in model:
        place = document.value_place(("model", "hf_config"))
        data["model"] = {"hf_config": str(Path(beside(place, str(model["hf_config"]))).resolve())}
    degrees = data.get("parallelism")
    if not isinstance(degrees, dict):
        return data
    schedule = degrees.get("schedule")
    if isinstance(schedule, dict) and "csv" in schedule:
        place = document.value_place(("parallelism", "schedule", "csv"))
        path = str(Path(beside(place, str(schedule["csv"]))).resolve())
        data["parallelism"] = {**degrees, "schedule": {"csv": path}}
    return data
