"""The constants that only whole training steps show, and what is known of them beforehand.

A constant is ``typical * own``: what all GPUs or stacks share, times what sets one apart. Both are fitted,
the second with a prior that pulls it to one, so that a GPU or stack of few runs stays near the typical one
and a stack that was never seen gets just that (a hierarchical model: Gelman and Hill, 2006, chapter 12).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulator.scenario.training import number_format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.scenario import Scenario

FORMATS = {"16-bit": ("bf16", "fp16"), "fp8": ("fp8",), "fp4": ("fp4",), "fp32": ("fp32",), "tf32": ("tf32",)}
"""Number formats that share one clock: they use the same datapaths at the same power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A kind of constant.

    Attributes:
        field: Its name in the fitted file and in the scenario.
        per: Who owns one: ``gpu`` or ``stack``.
        typical: Value before any run is seen.
        typical_spread: Standard deviation of the logarithm of the typical value.
        own_spread: Standard deviation of the logarithm of an owner's value around it.
        least: Physical lower limit.
        most: Physical upper limit.
        step: Relative step of finite differences, wide enough to see past kinks.
        where_stated: Whether only owners whose entry states one have it: it is typical of no other.
    """

    field: str
    per: str
    typical: float
    typical_spread: float
    own_spread: float
    least: float
    most: float
    step: float
    where_stated: bool = False


CLOCK = Quantity(
    field="training_clock",
    per="gpu",
    typical=1.0,
    typical_spread=0.08,
    own_spread=0.06,
    least=0.5,
    most=1.15,
    step=0.04,
)
"""Share of its isolated speed that a GEMM sustains between the other kernels and collectives of a step."""

SLOWDOWN = Quantity(
    field="elementwise_slowdown",
    per="stack",
    typical=1.1,
    typical_spread=0.1,
    own_spread=0.35,
    least=0.8,
    most=4.0,
    step=0.08,
)
"""How many more bytes memory-bound kernels move than the listed ones: copies, casts, layout changes."""

STACK_QUANTITIES = (
    Quantity(
        field="kernel_launch_s",
        per="stack",
        typical=12e-6,
        typical_spread=0.5,
        own_spread=0.5,
        least=2e-6,
        most=80e-6,
        step=1.0,
    ),
    Quantity(
        field="module_call_s",
        per="stack",
        typical=200e-6,
        typical_spread=0.5,
        own_spread=0.3,
        least=5e-6,
        most=1e-3,
        step=0.25,
        where_stated=True,
    ),
    SLOWDOWN,
    Quantity(
        field="step_overhead_s",
        per="stack",
        typical=10e-3,
        typical_spread=0.7,
        own_spread=0.7,
        least=0.5e-3,
        most=0.3,
        step=0.5,
    ),
)
"""What the host spends on a kernel that a layer lists and on calling a module, how many more bytes
memory-bound kernels move than the listed ones (copies, casts, layout changes), and the fixed time of a step
(data, logging, synchronisation). Only a stack whose modules are slow to call has the second."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One number to fit.

    Attributes:
        quantity: What it is.
        owner: GPU or stack.
        family: Family of number formats, for clocks.
    """

    quantity: Quantity
    owner: str
    family: str = ""

    @property
    def group(self) -> str:
        """Those that share a typical value."""
        return f"{self.quantity.field} {self.family}".strip()

    def apply(self, scenario: Scenario, value: float) -> Scenario:
        """Return the scenario with this constant in place of its own."""
        if self.quantity.per == "stack":
            # A stack's fields are the quantities' names.
            return replace(scenario, software=replace(scenario.software, **{self.quantity.field: value}))  # type: ignore[arg-type]
        gpu = scenario.cluster.gpu
        clocks = {**gpu.training_clock, **dict.fromkeys(FORMATS[self.family], value)}
        return replace(scenario, cluster=replace(scenario.cluster, gpu=replace(gpu, training_clock=clocks)))


def constants_of(scenario: Scenario) -> tuple[Constant, ...]:
    """Return the constants that a scenario depends on.

    >>> from simulator import load
    >>> [f"{c.group} of {c.owner}" for c in constants_of(load("scenarios/llama3-405b-16k.yaml"))][:2]
    ['training_clock 16-bit of h100-80gb-sxm', 'kernel_launch_s of meta-llama3']
    """
    lowest = number_format(scenario.training.precision)
    families = ["16-bit"] + [name for name, formats in FORMATS.items() if lowest in formats]
    gpu, stack = scenario.cluster.gpu.name, scenario.software.name
    clocks = [Constant(CLOCK, gpu, family) for family in dict.fromkeys(families)]
    has = [q for q in STACK_QUANTITIES if not q.where_stated or getattr(scenario.software, q.field) > 0]
    return (*clocks, *(Constant(quantity, stack) for quantity in has))


def applied(scenario: Scenario, values: Mapping[Constant, float]) -> Scenario:
    """Return the scenario with all its constants replaced."""
    for constant in constants_of(scenario):
        scenario = constant.apply(scenario, values[constant])
    return scenario
