"""The second narrow waist: what happened, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.workload.program import Ints, Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When every op of a Program ran.

    Attributes:
        program: The program; its columns say which rank and stream each op ran on.
        start_s: Start of each op, from 0.
        end_s: End of each op.
    """

    program: Program
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    @property
    def makespan_s(self) -> float:
        """Time from 0 to the end of the last op."""
        return float(self.end_s.max(initial=0.0))

    def ops_of(self, rank: int, *streams: int) -> Ints:
        """Return the ops of a rank, on the given streams or on all of them, in order of their start."""
        program = self.program
        chosen = program.rank == rank
        if streams:
            chosen &= np.isin(program.stream, streams)
        ops = np.flatnonzero(chosen)
        return ops[np.lexsort((ops, self.start_s[ops]))]
