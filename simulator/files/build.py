"""A checked document as a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from simulator import catalogue
from simulator.catalogue import NetworkEntry
from simulator.documents import Document, Sourced, validate
from simulator.errors import CatalogueError, ScenarioError
from simulator.files.base import beside
from simulator.files.effect_rules import warn
from simulator.files.hugging_face import read_config
from simulator.files.layers import stage_layers
from simulator.files.layout_rules import check_layout, check_pipeline, data_parallel
from simulator.files.model_rules import check_model, check_precision
from simulator.files.named import HuggingFaceModel
from simulator.files.report import Findings
from simulator.files.scenario_file import ScenarioFile
from simulator.files.sweeps import measured, sweep
from simulator.scenario import (
    Cluster,
    Gpu,
    Model,
    Network,
    Overlap,
    Parallelism,
    Scenario,
    Software,
    Training,
)

if TYPE_CHECKING:
    from simulator.files.sections import TrainingSection


def build(document: Document, default_name: str) -> Scenario:
    """Return the scenario that a document describes, in the schema's spelling and without a base.

    Raises:
        ScenarioError: All problems with it.
    """
    file = validate(document, ScenarioFile)
    findings = Findings(document)
    gpu = (
        catalogue.gpu(file.cluster.gpu)
        if isinstance(file.cluster.gpu, str)
        else file.cluster.gpu.to_scenario("gpu")
    )
    model = _model(file, findings)
    parallelism = _parallelism(file, model, findings)
    check_precision(file, gpu, findings)
    drawn = sweep(file.sweep, findings)
    if findings.problems or model is None or parallelism is None:
        raise ScenarioError(findings.problems)
    cluster = _cluster(file, gpu)
    software = _software(file)
    warn(file, cluster, parallelism, findings)
    return Scenario(
        name=file.name or default_name,
        cluster=cluster,
        model=model,
        parallelism=parallelism,
        training=_training(file.training, software),
        software=software,
        seed=file.simulation.seed,
        measured=measured(file.measured),
        sweep=drawn,
        warnings=tuple(findings.warnings),
        document=_self_contained(document),
    )


def _cluster(file: ScenarioFile, gpu: Gpu) -> Cluster:
    section = file.cluster
    return Cluster(
        gpu=gpu,
        gpus=section.gpus,
        gpus_per_node=section.gpus_per_node or gpu.gpus_per_node,
        scale_up_domain=section.scale_up_domain or gpu.scale_up_domain,
        network=_network(file, gpu),
        price_per_gpu_hour=section.price_per_gpu_hour,
    )


def _network(file: ScenarioFile, gpu: Gpu) -> Network:
    network = file.cluster.network
    if isinstance(network, str):
        return catalogue.network(network)
    if network is None:
        origin = f"the usual server of {gpu.name}"
        rate = Sourced(value=gpu.network_bytes_per_s, source=origin, kind="assumed")
        network = NetworkEntry.model_construct(kind="rail-optimised", bandwidth_per_gpu=rate)
        return network.to_scenario("assumed")
    return network.to_scenario("network")


def _model(file: ScenarioFile, findings: Findings) -> Model | None:
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


def _software(file: ScenarioFile) -> Software:
    named = file.software
    return catalogue.software(named) if isinstance(named, str) else named.to_scenario("software")


def _parallelism(file: ScenarioFile, model: Model | None, findings: Findings) -> Parallelism | None:
    section = file.parallelism
    dp = data_parallel(file, findings)
    check_pipeline(file, findings)
    if dp is not None:
        check_layout(file, dp, findings)
    if model is None:
        return None
    check_model(file, model, findings)
    layers = stage_layers(section, model.num_hidden_layers, findings) if dp is not None else ()
    if dp is None:
        return None
    sequence_parallel = section.tp > 1 if section.sequence_parallel is None else section.sequence_parallel
    return Parallelism(
        tp=section.tp,
        pp=section.pp,
        vpp=section.vpp,
        cp=section.cp,
        ep=section.ep,
        dp=dp,
        sequence_parallel=sequence_parallel and section.tp > 1,
        schedule=section.schedule or ("1f1b" if section.vpp == 1 else "interleaved"),
        sharding=section.sharding,
        stage_layers=layers,
        placement=tuple(section.placement),
        cp_comm=section.cp_comm,
    )


def _training(section: TrainingSection, software: Software) -> Training:
    given, habits = section.overlap, software.overlap
    return Training(
        seq_length=section.seq_length,
        micro_batch_size=section.micro_batch_size,
        global_batch_size=section.global_batch_size,
        precision=section.precision,
        recompute=section.recompute,
        attention=section.attention or software.attention,
        grad_dtype=section.grad_dtype or _grad_dtype(software),
        overlap=Overlap(
            grad_reduce=habits.grad_reduce if given.grad_reduce is None else given.grad_reduce,
            param_gather=habits.param_gather if given.param_gather is None else given.param_gather,
            p2p=habits.p2p if given.p2p is None else given.p2p,
            tp=habits.tp if given.tp is None else given.tp,
        ),
        tokens=section.tokens,
    )


def _grad_dtype(software: Software) -> Literal["fp32", "bf16", "fp16"]:
    for dtype in ("fp32", "bf16", "fp16"):
        if software.grad_dtype == dtype:
            return dtype
    raise CatalogueError(
        f"{software.name} accumulates gradients in an unknown format {software.grad_dtype!r}"
    )


def _self_contained(document: Document) -> dict[str, object]:
    """Return the content without paths that hold only beside the file."""
    data = dict(document.data) if isinstance(document.data, dict) else {}
    model = data.get("model")
    if isinstance(model, dict) and "hf_config" in model:
        place = document.value_place(("model", "hf_config"))
        data["model"] = {"hf_config": str(Path(beside(place, str(model["hf_config"]))).resolve())}
    return data
