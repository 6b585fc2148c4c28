"""``simulator measure``: the kernels of a scenario on the GPU at hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from simulator import files
from simulator.cli.progress import counted
from simulator.cli.screen import show_json, show_text
from simulator.cli.settings import NO_SETTINGS, Json, ScenarioPath, Settings

if TYPE_CHECKING:
    from simulator.measure.step import StepTimes


def measure_command(
    file: ScenarioPath,
    /,
    *,
    settings: Settings = NO_SETTINGS,
    device: Literal["cuda", "cpu"] = "cuda",
    settle_s: Annotated[float, Parameter(name="--settle", validator=Number(gte=0))] = 1.0,
    repeats: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    steps: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    as_json: Json = False,
) -> int:
    """Time a scenario's kernels, or whole steps, with PyTorch on this machine beside what the simulator says.

    Args:
        file: Scenario file; - reads standard input.
        settings: Settings that replace those of the file.
        device: Where to run.
        settle_s: Seconds that each kernel runs before it is timed, for power and clocks to settle.
        repeats: Times taken of each kernel; the median counts.
        steps: Train that many steps of the whole model on one GPU instead, as torchtitan would.
        as_json: Print JSON: shapes, TFLOP/s and seconds of every kernel.
    """
    from simulator.measure.document import lines, plain
    from simulator.measure.measure import device_names, measure
    from simulator.measure.step import measure_step
    from simulator.measure.timer import Timer

    scenario = files.load(file, overrides=settings.overrides())
    if steps:
        names = device_names(device)
        _show_steps(measure_step(scenario, device, steps), names, scenario.cluster.gpu.name, as_json)
        return 0
    timer = Timer(device=device, settle_s=settle_s, repeats=repeats)
    with counted("kernels") as progress:
        found = measure(scenario, timer, progress)
    if as_json:
        show_json(plain(found))
    else:
        show_text("\n".join(lines(found)))
    return 0


def _show_steps(times: StepTimes, names: tuple[str, str], gpu: str, as_json: bool) -> None:
    """Show the times of steps, under the device's name and the software's versions."""
    from simulator.measure.step import step_lines

    name, software = names
    if as_json:
        show_json({"device": name, "software": software, "gpu": gpu} | asdict(times))
    else:
        show_text("\n".join((f"Measured on {name} ({software})", "", *step_lines(times))))
