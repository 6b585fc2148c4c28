"""Seconds of work on a device, once its clocks have settled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_WARM_UPS = 3
_HOST_BOUND = 0.8
_BATCH_S = 2e-3
"""Calls are timed in batches of about this length, beside which a timer's own cost is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """How to time.

    Attributes:
        device: ``cuda`` or ``cpu``.
        settle_s: Seconds of the same work before anything is timed: power and clocks settle meanwhile.
        repeats: Times that are taken; the median counts.
    """

    device: str
    settle_s: float = 1.0
    repeats: int = 20

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the device's median seconds of one call.

        Launches hide behind the calls before. Where the host takes as long as the device, they cannot, and
        the profiler's record of the kernels alone counts.
        """
        for _ in range(_WARM_UPS):
            run()
        self.wait()
        ends_at = time.perf_counter() + self.settle_s
        calls, started = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() < ends_at:
            run()
            calls += 1
            if calls % self.repeats == 0:
                self.wait()
        self.wait()
        each = (time.perf_counter() - started) / calls
        inner = max(1, round(_BATCH_S / each))
        found = median([self._batch_s(run, inner) for _ in range(self.repeats)])
        if self.device == "cuda" and self.host_s(run, inner) > _HOST_BOUND * found:
            return sum(self.kernels_s(run, inner).values())
        return found

    def kernels_s(self, run: Callable[[], object], calls: int = 1) -> dict[str, float]:
        """Return the device's seconds in one call by name of kernel, from the profiler; needs a GPU."""
        from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415  the user's own

        with profile(activities=[ProfilerActivity.CUDA]) as record:
            for _ in range(calls):
                run()
            self.wait()
        return {
            event.key: event.self_device_time_total * 1e-6 / calls
            for event in record.key_averages()
            if event.self_device_time_total > 0
        }

    def host_s(self, run: Callable[[], object], calls: int = 200) -> float:
        """Return the host's seconds of one call that the device could run faster than it is launched."""
        run()
        self.wait()
        started = time.perf_counter()
        for _ in range(calls):
            run()
        spent_s = time.perf_counter() - started
        self.wait()
        return spent_s / calls

    def state(self) -> tuple[float | None, float | None]:
        """Return the multiprocessors' clock in Hz and the device's power in W, if the driver tells."""
        import torch  # noqa: PLC0415  the user's own

        if self.device != "cuda":
            return None, None
        try:
            return torch.cuda.clock_rate() * 1e6, torch.cuda.power_draw() * 1e-3
        except (ModuleNotFoundError, RuntimeError):
            return None, None

    def wait(self) -> None:
        """Wait until the device has done everything."""
        import torch  # noqa: PLC0415  the user's own

        if self.device == "cuda":
            torch.cuda.synchronize()

    def _batch_s(self, run: Callable[[], object], calls: int) -> float:
        """Time several calls in a row, by the device's own clock where it has one."""
        import torch  # noqa: PLC0415  the user's own

        if self.device != "cuda":
            started = time.perf_counter()
            for _ in range(calls):
                run()
            return (time.perf_counter() - started) / calls
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            run()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) * 1e-3 / calls
