"""Many tasks on as many machines as the user has: one switch, and engines that exist.

joblib runs them in local processes by default, and on the workers of a Dask or Ray cluster by its address.
What a task returns arrives as soon as it is done, so that it can be kept before the next one.
"""

from __future__ import annotations

import socket
import traceback
import warnings
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from simulator.errors import InputError, SimulationError, SimulatorError, did_you_mean
from simulator.explore.store import version

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

Given = TypeVar("Given")
Found = TypeVar("Found")
PROCESS_LOST = "a local process was killed, perhaps for want of memory; fewer --jobs need less"
ENGINES = ("local", "dask", "ray")
_PER_WORKER = 8
"""Tasks handed out at once for each worker where a backend returns them only together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Where tasks run.

    Attributes:
        engine: ``local``, ``dask`` or ``ray``.
        address: Scheduler of the cluster, for example ``tcp://head:8786``; empty for local processes.
        jobs: Local processes; on a cluster, the tasks that run at once are its own affair.
    """

    engine: str = "local"
    address: str = ""
    jobs: int = 1

    def __str__(self) -> str:
        return f"{self.engine}:{self.address}" if self.address else self.engine

    @classmethod
    def parse(cls, text: str, jobs: int = 1) -> Backend:
        """Read ``local``, ``dask:ADDRESS`` or ``ray:ADDRESS``.

        Raises:
            InputError: No such engine, a cluster without an address, or one with a number of processes.

        >>> Backend.parse("dask:tcp://head:8786")
        Backend(engine='dask', address='tcp://head:8786', jobs=1)
        """
        engine, _, address = text.partition(":")
        if engine not in ENGINES:
            raise InputError(
                f"--backend {text}: no engine {engine!r}{did_you_mean(engine, ENGINES)}; "
                f"one of local, dask:ADDRESS, ray:ADDRESS"
            )
        if engine != "local" and not address:
            raise InputError(f"--backend {text}: needs the scheduler's address, as in {engine}:ADDRESS")
        if engine == "local" and address:
            raise InputError(f"--backend {text}: local processes have no address; write --backend local")
        if engine != "local" and jobs > 1:
            raise InputError(
                f"--backend {text}: --jobs counts local processes; a cluster has as many as it has"
            )
        return cls(engine=engine, address=address, jobs=jobs)


LOCAL = Backend()


def execute(
    run: Callable[[Given], Found], tasks: Sequence[Given], backend: Backend = LOCAL
) -> Iterator[tuple[int, Found]]:
    """Run tasks and yield the position and the result of each as it is done, in any order.

    Args:
        run: A function of a module: other processes import it.
        tasks: Plain data.
        backend: Where.

    Raises:
        InputError: The backend's library is missing, nobody answers at the address, or its workers have
            another version of the simulator.
    """
    if not tasks:
        return
    if backend == LOCAL or (backend.engine == "local" and len(tasks) <= 1):
        yield from ((number, run(task)) for number, task in enumerate(tasks))
        return
    with pool_of(backend) as pool:
        yield from pool.each(run, tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers that are connected, for one list of tasks after the other.

    Attributes:
        backend: Where they are.
        workers: How many.
        parallel: What takes calls and yields what they return.
        at_once: Most calls that it takes at a time, where it returns results only together.
    """

    backend: Backend
    workers: int
    parallel: Callable[[Iterable[Any]], Generator[Any]]
    at_once: int | None = None

    def each(self, run: Callable[[Given], Found], tasks: Sequence[Given]) -> Iterator[tuple[int, Found]]:
        """Run tasks as ``execute`` does."""
        from joblib import delayed  # noqa: PLC0415  only where it is used

        call = delayed(_numbered if self.backend.engine == "local" else _answered)
        numbered = list(enumerate(tasks))
        size = self.at_once or len(tasks)
        for first in range(0, len(tasks), size):
            wave = numbered[first : first + size]
            calls = (call(run, number, task, version()) for number, task in wave)
            try:
                with closing(self.parallel(calls)) as answers:
                    yield from (_found(answer, self.backend) for answer in answers)
            except SimulatorError:
                raise
            except BrokenProcessPool as error:
                raise SimulationError(PROCESS_LOST) from error
            except TimeoutError as error:
                raise InputError(f"--backend {self.backend}: the cluster has no worker") from error
            except Exception as error:
                if self.backend.engine == "local":
                    raise
                # Tasks return their errors, so this is the cluster's: a scheduler that is gone, say.
                kind = type(error).__name__
                raise SimulationError(
                    f"--backend {self.backend}: the cluster failed: {kind}: {error}"
                ) from error


def _numbered(run: Callable[[Given], Found], number: int, task: Given, _version: str) -> tuple[int, Found]:
    return number, run(task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """An error on another machine, as text: the object may hold what no network carries.

    Attributes:
        host: The machine.
        message: What happened.
        exit_code: As of the error, where it was raised on purpose; else None.
    """

    host: str
    message: str
    exit_code: int | None = None

    def error(self, backend: Backend) -> SimulatorError:
        text = f"--backend {backend}: on {self.host}: {self.message}"
        return InputError(text) if self.exit_code == InputError.exit_code else SimulationError(text)


def _found(answer: tuple[int, Found] | _Failure, backend: Backend) -> tuple[int, Found]:
    if isinstance(answer, _Failure):
        raise answer.error(backend)
    return answer


def _answered(
    run: Callable[[Given], Found], number: int, task: Given, wanted: str
) -> tuple[int, Found] | _Failure:
    """Run a task on a cluster, by the version that asks for it: another one may find other numbers."""
    host = socket.gethostname()
    if wanted != version():
        mismatch = f"version {version()} of the simulator, here {wanted}"
        return _Failure(host=host, message=mismatch, exit_code=InputError.exit_code)
    try:
        return number, run(task)
    except SimulatorError as error:
        return _Failure(host=host, message=str(error), exit_code=error.exit_code)
    except Exception:  # noqa: BLE001  whatever it is, it is told where somebody reads it
        return _Failure(host=host, message=traceback.format_exc())


@contextmanager
def pool_of(backend: Backend) -> Iterator[Pool]:
    """Connect to workers.

    Raises:
        InputError: As ``execute``.
    """
    from joblib import Parallel, parallel_config  # noqa: PLC0415  only where it is used

    if backend.engine == "local":
        parallel = Parallel(n_jobs=backend.jobs, return_as="generator_unordered")
        yield Pool(backend=backend, workers=backend.jobs, parallel=parallel)
    elif backend.engine == "dask":
        with _dask(backend.address) as workers:
            yield Pool(backend=backend, workers=workers, parallel=_on_dask)
    else:
        # One pool of Ray's, for each starts processes, which know nothing of what was built before.
        with (
            _ray(backend.address) as workers,
            parallel_config("ray", n_jobs=-1),
            Parallel(return_as="list") as parallel,
        ):
            each = partial(_together, parallel)
            yield Pool(backend=backend, workers=workers, parallel=each, at_once=workers * _PER_WORKER)


def _on_dask(calls: Iterable[Any]) -> Generator[Any]:
    """Run calls on the workers of the client that is connected."""
    from joblib import Parallel, parallel_config  # noqa: PLC0415  only where it is used
    from joblib._dask import DaskDistributedBackend  # noqa: PLC0415  as above

    class Dask(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        """Sends calls to a single worker, too: joblib would run them here, on a login node perhaps."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

    with (
        warnings.catch_warnings(),
        parallel_config(Dask(), n_jobs=-1),
        closing(Parallel(return_as="generator_unordered")(calls)) as answers,
    ):
        warnings.simplefilter("ignore")  # that closing it early cancels the other calls is meant
        yield from answers


def _together(parallel: Callable[[Iterable[Any]], Iterable[Any]], calls: Iterable[Any]) -> Generator[Any]:
    yield from parallel(calls)


@contextmanager
def _dask(address: str) -> Iterator[int]:
    try:
        from distributed import Client  # noqa: PLC0415  an extra
    except ModuleNotFoundError as error:
        raise InputError("--backend dask needs the extra 'dask': pip install '.[dask]'") from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(f"--backend dask:{address}: no scheduler answers there: {error}") from error
    with client:
        yield max(1, sum(client.nthreads().values()))


@contextmanager
def _ray(address: str) -> Iterator[int]:
    try:
        import ray  # noqa: PLC0415  an extra
        from ray.util.joblib import register_ray  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        raise InputError("--backend ray needs the extra 'ray': pip install '.[ray]'") from error
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--backend ray:{address}: no cluster answers there, or not without its RAY_AUTH_TOKEN: {error}"
        ) from error
    register_ray()
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes. Words such as auto pass."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), timeout=10).close()
