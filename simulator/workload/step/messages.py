"""What a pipeline message carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.workload.grid import stride
from simulator.workload.layers.local_sizes import local_sizes
from simulator.workload.work import Transfer

if TYPE_CHECKING:
    from simulator.scenario import Scenario


def message_bytes(scenario: Scenario) -> float:
    """Return what one rank sends to the next pipeline stage for each micro-batch.

    With tensor parallelism every rank sends its part and the receivers gather it over their fast links
    (Narayanan et al., arXiv:2104.04473, section 4.1), unless the stack sends the whole activation from each;
    with sequence parallelism that part is all it has.
    """
    sizes = local_sizes(scenario)
    is_whole = scenario.software.whole_messages and not sizes.sequence_parallel
    tokens = sizes.tokens / (1 if is_whole else sizes.tp.size)
    return tokens * scenario.model.hidden_size * sizes.element_bytes


def message(scenario: Scenario, source: int, target: int, *, receives: bool = False) -> Transfer:
    """Return the message of one micro-batch between two pipeline ranks, or the receiver's part in it."""
    return Transfer(
        bytes=message_bytes(scenario),
        stride=abs(source - target) * stride(scenario.parallelism, "pp"),
        source=source,
        target=target,
        receives=receives,
    )
