"""Products are faster where a power-limited GPU rests between them: as measured, within the headroom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from factories import GPU, make_scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laws.layers import layer
from simulator import catalogue
from simulator.costs.system import System
from simulator.durations.layers import device_s, kernel_seconds
from simulator.durations.power import relieved
from simulator.durations.price import price_layer
from simulator.engines.durations import Durations
from simulator.workload.program import OpKind, ProgramBuilder, Stream
from simulator.workload.work import Elementwise, Gemm

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.workload.program import Program

H100 = catalogue.gpu("h100-80gb-sxm")
RATE = 702.0
"""TFLOP/s of 8,192-cubed products on one H100, back to back, when the turns below were measured."""
RESTS = (
    (0.218, 0.0, 737.0),
    (0.276, 0.0, 762.0),
    (0.379, 0.0, 778.0),
    (0.427, 0.0, 773.0),
    (0.557, 0.0, 781.0),
)
STREAMS = ((0.0, 0.193, 708.0), (0.0, 0.191, 701.0), (0.0, 0.328, 729.0), (0.0, 0.325, 727.0))


def on(power: bool, link: float = 1.0, **degrees: int) -> tuple[Scenario, System]:
    """Return a scenario on a GPU that is limited by power or not, with slower links inside its domain."""
    gpu = replace(
        GPU, power=H100.power if power else None, scale_up_bytes_per_s=link * GPU.scale_up_bytes_per_s
    )
    found = make_scenario(gpu=gpu, **degrees)  # type: ignore[arg-type]
    return found, System.of(found)


def turn() -> Program:
    """One product and one copy after it."""
    builder = ProgramBuilder(rank_names=("gpu 0",))
    product = Gemm(name="product", m=8192, n=8192, k=8192, dtype="bf16")
    first = builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, product)
    builder.add(OpKind.KERNEL, 0, Stream.COMPUTE, Elementwise(name="copy", bytes_moved=1e9), after=[first])
    return builder.build()


@pytest.mark.parametrize(("idle", "copies", "measured"), RESTS + STREAMS)
def test_turns_of_work_and_rest_are_as_fast_as_measured(idle: float, copies: float, measured: float) -> None:
    _, system = on(True)
    program = turn()
    alone = Durations.of(np.array([1.0 - idle - copies, copies]))
    found = relieved(program, alone, 1.0, system)
    assert RATE * alone.fixed_s[0] / found.fixed_s[0] == pytest.approx(measured, rel=0.025)
    assert found.fixed_s[1] == alone.fixed_s[1]


@settings(deadline=None, max_examples=30)
@given(tp=st.sampled_from([1, 2, 8]), link=st.floats(0.1, 1.0))
def test_a_layer_gains_at_most_the_headroom(tp: int, link: float) -> None:
    """Between the layer at the sustained clock and the bound that a search prunes by."""
    assert H100.power is not None
    _, sustained = on(False, link, tp=tp)
    found, relieving = on(True, link, tp=tp)
    for block in layer(found):
        before, after = device_s(block.program, sustained), device_s(block.program, relieving)
        assert before / (1.0 + H100.power.headroom) <= after <= before * (1.0 + 1e-12)
        assert kernel_seconds(block, relieving) <= max(after, kernel_seconds(block, sustained)) * (
            1.0 + 1e-12
        )


def test_back_to_back_products_gain_nothing() -> None:
    _, system = on(True)
    program = turn()
    alone = Durations.of(np.array([1.0, 0.0]))
    assert relieved(program, alone, 1.0, system).fixed_s.tolist() == alone.fixed_s.tolist()


def test_a_gpu_that_nobody_measured_gains_nothing() -> None:
    found, system = on(False)
    program = layer(found)[0].program
    alone = price_layer(program, system)
    assert relieved(program, alone, 1.0, system) is alone
