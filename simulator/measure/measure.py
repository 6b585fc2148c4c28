"""Measure the kernels of a scenario's layers on this machine's device and set them beside the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.costs.kernels import kernel_s
from simulator.errors import InputError
from simulator.measure.kernels import attention, product
from simulator.measure.layer import DenseLayer, LayerTimes, layer_times
from simulator.measure.pointwise import copies, pointwise
from simulator.workload.layers.settings import layer_settings
from simulator.workload.program import BlockSequence
from simulator.workload.step.build import build_step
from simulator.workload.work import Attention, Elementwise, Gemm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulator.measure.timer import Timer
    from simulator.scenario import Scenario
    from simulator.workload.layers.settings import LayerSettings
    from simulator.workload.program import Program

Kernel = Gemm | Attention | Elementwise


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredKernel:
    """One kernel.

    Attributes:
        work: What it does.
        measured_s: Seconds here.
        predicted_s: Seconds that the simulator says of the scenario's GPU.
    """

    work: Kernel
    measured_s: float
    predicted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured.

    Attributes:
        device: Name of the device.
        software: Versions of PyTorch and CUDA.
        gpu: The scenario's GPU, of which the predictions speak.
        kernels: Kernel by kernel.
        left_out: Names of kernels that PyTorch alone does not have.
        launch_s: Host seconds of one small kernel.
        layer: A whole layer in eager PyTorch; None for layers that are not plain ones.
    """

    device: str
    software: str
    gpu: str
    kernels: tuple[MeasuredKernel, ...]
    left_out: tuple[str, ...]
    launch_s: float
    layer: LayerTimes | None


def kernels_of(scenario: Scenario) -> tuple[Kernel, ...]:
    """Return the different kernels of a scenario's layers, in the order in which they first run."""
    return tuple(dict.fromkeys(_kernels(build_step(scenario).program)))


def measure(
    scenario: Scenario, timer: Timer, progress: Callable[[int, int], None] = lambda *_: None
) -> Measured:
    """Time every kernel of a scenario's layers, one launch, and one layer as a whole.

    Args:
        scenario: Whose shapes and whose GPU.
        timer: On what, and how long.
        progress: Called with the number of kernels done and of all.

    Raises:
        InputError: PyTorch is missing, or has no such device.
    """
    device, software = device_names(timer.device)
    model, training, gpu = scenario.model, scenario.training, scenario.cluster.gpu
    settings, layer = layer_settings(scenario), DenseLayer.of(model)
    works, found, left_out = kernels_of(scenario), [], []
    for number, work in enumerate(works):
        seconds = _seconds(work, settings, model.norm, timer)
        if seconds is None:
            left_out.append(work.name)
        else:
            expected = kernel_s(work, gpu)
            found.append(MeasuredKernel(work=work, measured_s=seconds, predicted_s=expected))
        progress(number + 1, len(works))
    launch = copies(Elementwise(name="launch", bytes_moved=4.0), timer.device)
    return Measured(
        device=device,
        software=software,
        gpu=gpu.name,
        kernels=tuple(found),
        left_out=tuple(dict.fromkeys(left_out)),
        launch_s=timer.host_s(launch),
        layer=None
        if layer is None
        else layer_times(layer, training.micro_batch_size, training.seq_length, training.precision, timer),
    )


def _seconds(work: Kernel, settings: LayerSettings, norm: str, timer: Timer) -> float | None:
    """Return the seconds of a kernel, or None where this PyTorch has none for it on this device."""
    try:
        run = _runnable(work, settings, norm, timer.device)
        return None if run is None else timer.seconds(run)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        # What a release of PyTorch lacks shows in any of these; the report names the kernel as left out.
        return None


def _runnable(work: Kernel, settings: LayerSettings, norm: str, device: str) -> Callable[[], object] | None:
    if isinstance(work, Gemm):
        return product(work, device)
    if isinstance(work, Attention):
        return attention(work, device)
    return pointwise(work, settings, norm, device)


def device_names(device: str) -> tuple[str, str]:
    """Return the device's name and the software's versions.

    Raises:
        InputError: PyTorch is missing, or has no such device.
    """
    try:
        import torch  # noqa: PLC0415  the user's own
    except ModuleNotFoundError as error:
        raise InputError("simulator measure needs PyTorch; install the build for this machine") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch sees no GPU here; --device cpu shows what would be measured")
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return name, f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"


def _kernels(step: Program) -> Iterator[Kernel]:
    for work in step.works:
        if isinstance(work, BlockSequence):
            for block, _ in work.blocks:
                for leaf in block.program.works:
                    if isinstance(leaf, Gemm | Attention | Elementwise):
                        yield leaf
