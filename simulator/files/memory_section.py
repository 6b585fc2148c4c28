"""Settings of a training step that trade time for memory: recomputation, offloading, number formats."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, model_validator

from simulator.documents import Also, Count, Fraction, Strict
from simulator.scenario import Offload, RecomputeDetail, Software
from simulator.scenario.recompute import (
    OffloadModule,  # noqa: TC001  pydantic reads it
    OptimizerOffload,  # noqa: TC001  pydantic reads it
    Recompute,  # noqa: TC001  pydantic reads it
    RecomputeMethod,  # noqa: TC001  pydantic reads it
    RecomputeModule,  # noqa: TC001  pydantic reads it
)
from simulator.scenario.training import Precision, StateFormat  # noqa: TC001  pydantic reads them

_GRANULARITY = {"enum": ["none", "selective", "full"]}
_FORMATS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float8": "fp8"}
_PARTS = {
    "granularity": "recompute",
    "modules": "recompute_modules",
    "method": "recompute_method",
    "num_layers": "recompute_num_layers",
    "distribute_saved_activations": "distribute_saved_activations",
}


class OffloadSection(Strict):
    """What waits in host memory."""

    activations: Annotated[
        Literal["none", "all"] | list[OffloadModule],
        Also("offload_modules"),
    ] = "none"
    """Saved activations that are copied out and back: none, all, or those of the modules named."""
    num_layers: Annotated[Count | None, Also("cpu_offloading_num_layers")] = None
    """Layers of each stage, from the first, whose activations are; default: all but the last."""
    optimizer: Annotated[OptimizerOffload, Also("optimizer_cpu_offload", {True: "cpu", False: "none"})] = (
        "none"
    )
    """Optimizer state: `stream` passes it through the GPU, `cpu` lets the host update it."""
    optimizer_fraction: Annotated[Fraction, Also("optimizer_offload_fraction")] = 1.0
    """Share of the parameters whose optimizer state waits in host memory."""
    optimizer_overlap: Annotated[bool, Also("overlap_cpu_optimizer_d2h_h2d")] = True
    """Copy one bucket while another is updated."""

    def to_scenario(self) -> Offload:
        """Return the settings as scenario data."""
        named = {"none": (), "all": ("all",)}
        modules: tuple[OffloadModule, ...] = (
            named[self.activations]  # type: ignore[assignment]
            if isinstance(self.activations, str)
            else tuple(self.activations)
        )
        return Offload(
            modules=modules,
            num_layers=self.num_layers,
            optimizer=self.optimizer,
            optimizer_fraction=self.optimizer_fraction,
            optimizer_overlap=self.optimizer_overlap,
        )


class MemorySettings(Strict):
    """The part of the training section that trades time for memory."""

    precision: Annotated[
        Precision,
        Also(
            "fp8_recipe",
            {
                "delayed": "fp8-delayed",
                "tensorwise": "fp8-current",
                "rowwise": "fp8-rowwise",
                "blockwise": "fp8-blockwise",
                "mxfp8": "fp8-mx",
            },
        ),
    ] = "bf16"
    """Number format of the matrix multiplications; low ones with the recipe that scales them. `fp8` is
    `fp8-delayed`, `fp4` is `nvfp4`."""
    bf16_layers_at_start: Annotated[Count, Also("num_layers_at_start_in_bf16")] = 0
    """First layers of the model that stay in bf16 in a low precision."""
    bf16_layers_at_end: Annotated[Count, Also("num_layers_at_end_in_bf16")] = 0
    """Last layers that do."""
    low_precision_params: Annotated[bool, Also("fp8_param_gather"), Also("fp8_param")] = False
    """Store weights in the low precision, and gather them so where the recipe allows."""
    master_dtype: Annotated[StateFormat, Also("main_params_dtype", _FORMATS)] = "fp32"
    """Number format of the optimizer's copy of the weights."""
    moment_dtype: Annotated[StateFormat, Also("exp_avg_dtype", _FORMATS)] = "fp32"
    """Number format of Adam's moments."""
    recompute: Annotated[
        Recompute,
        WithJsonSchema(
            {
                "anyOf": [
                    _GRANULARITY,
                    {
                        "type": "object",
                        "properties": {"granularity": _GRANULARITY, **{key: {} for key in _PARTS}},
                        "additionalProperties": False,
                    },
                ]
            }
        ),
        Also("recompute_granularity", {None: "none"}),
        Also("activations_checkpoint_granularity", {None: "none"}),
    ] = "none"
    """Activations recomputed in the backward pass; also `{granularity: selective, modules: [...]}` and
    `{granularity: full, method: block, num_layers: 4}`."""
    recompute_modules: list[RecomputeModule] | None = Field(default=None, min_length=1)
    """With selective: modules that run again, or per_op (torchtitan), save_qkv, save_attention or save_dots
    (MaxText); default: as the software does."""
    recompute_method: Annotated[
        RecomputeMethod | None, Also("activations_checkpoint_method", {None: None})
    ] = None
    """With full: uniform (keep the input of every num_layers layers), block (the first num_layers layers of
    each stage), every (one layer in each num_layers); default: uniform."""
    recompute_num_layers: Annotated[Count | None, Also("activations_checkpoint_num_layers", {None: None})] = (
        None
    )
    """With full: see recompute_method; default: 1, for block all layers."""
    distribute_saved_activations: bool = False
    """With full and without sequence parallelism: divide kept inputs among tp ranks."""
    offload: OffloadSection = OffloadSection()
    """What waits in host memory."""

    @model_validator(mode="before")
    @classmethod
    def _recompute_parts(cls, data: object) -> object:
        if not isinstance(data, dict) or not isinstance(data.get("recompute"), dict):
            return data
        parts = data["recompute"]
        unknown = [str(key) for key in parts if key not in _PARTS]
        if unknown or "granularity" not in parts:
            keys = ", ".join(map(str, parts)) or "nothing"
            raise ValueError(f"recompute takes 'granularity' and {', '.join(_PARTS)}, got {keys}")
        return data | {_PARTS[key]: value for key, value in parts.items()}

    def recompute_detail(self, software: Software) -> RecomputeDetail:
        """Return which layers and modules are recomputed."""
        modules = self.recompute_modules or software.recompute_modules
        return RecomputeDetail(
            modules=tuple(modules),
            method=self.recompute_method or "uniform",
            num_layers=self.recompute_num_layers,
            distribute_saved=self.distribute_saved_activations,
        )
