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
    from simulator.scenario import Scenario


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
    from simulator.measure.measure import measure
    from simulator.measure.timer import Timer

    scenario = files.load(file, overrides=settings.overrides())
    if steps:
        return _steps(scenario, device, steps, as_json)
    timer = Timer(device=device, settle_s=settle_s, repeats=repeats)
    with counted("kernels") as progress:
        found = measure(scenario, timer, progress)
    if as_json:
        show_json(plain(found))
    else:
        show_text("\n".join(lines(found)))
    return 0


def _steps(scenario: Scenario, device: Literal["cuda", "cpu"], steps: int, as_json: bool) -> int:
    from simulator.measure.measure import device_names
    from simulator.measure.step import measure_step, step_lines

    name, software = device_names(device)
    found = measure_step(scenario, device, steps)
    if as_json:
        show_json({"device": name, "software": software, "gpu": scenario.cluster.gpu.name} | asdict(found))
    else:
        show_text("\n".join((f"Measured on {name} ({software})", "", *step_lines(found))))
    return 0
