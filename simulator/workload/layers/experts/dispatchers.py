"""The named ways of tokens to experts and back; a new one is a new file and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.workload.layers.experts import allgather, alltoall, deepep, hybridep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.scenario.experts import Dispatcher
    from simulator.workload.layers.experts.token_load import TokenFlow
    from simulator.workload.layers.operation import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A dispatcher.

    Attributes:
        dispatch: Steps from the layer's input to the input of the experts.
        combine: Steps from the results of the experts to the layer's output.
    """

    dispatch: Callable[[TokenFlow], list[Step]]
    combine: Callable[[TokenFlow], list[Step]]


DISPATCHERS: Mapping[Dispatcher, Strategy] = {
    "alltoall": Strategy(dispatch=alltoall.dispatch, combine=alltoall.combine),
    "allgather": Strategy(dispatch=allgather.dispatch, combine=allgather.combine),
    "deepep": Strategy(dispatch=deepep.dispatch, combine=deepep.combine),
    "hybridep": Strategy(dispatch=hybridep.dispatch, combine=hybridep.combine),
}
