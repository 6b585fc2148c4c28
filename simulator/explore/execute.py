"""Many tasks on as many machines as the user has: one switch, and engines that exist.

joblib runs them in local processes by default, and on the workers of a Dask or Ray cluster by its address.
What a task returns arrives as soon as it is done, so that it can be kept before the next one.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from simulator.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Given = TypeVar("Given")
Found = TypeVar("Found")
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

    @classmethod
    def parse(cls, text: str, jobs: int = 1) -> Backend:
        """Read ``local``, ``dask:ADDRESS`` or ``ray:ADDRESS``.

        Raises:
            InputError: No such engine, or a cluster without an address.

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
        InputError: The backend's library is missing, or nobody answers at the address.
    """
    if backend == LOCAL or (backend.engine == "local" and len(tasks) <= 1):
        yield from ((number, run(task)) for number, task in enumerate(tasks))
        return
    with _pool(backend) as (parallel, streams, workers):
        size = len(tasks) if streams else max(1, workers * _PER_WORKER)
        for first in range(0, len(tasks), size):
            wave = list(enumerate(tasks))[first : first + size]
            yield from parallel(_delayed(run, number, task) for number, task in wave)


def _delayed(run: Callable[[Given], Found], number: int, task: Given) -> Any:  # noqa: ANN401  joblib's tuple
    from joblib import delayed  # noqa: PLC0415  only where it is used

    return delayed(_numbered)(run, number, task)


def _numbered(run: Callable[[Given], Found], number: int, task: Given) -> tuple[int, Found]:
    return number, run(task)


@contextmanager
def _pool(backend: Backend) -> Iterator[tuple[Any, bool, int]]:
    """Yield what runs tasks, whether it returns them one by one, and the number of workers."""
    from joblib import Parallel, parallel_config  # noqa: PLC0415  only where it is used

    if backend.engine == "local":
        yield Parallel(n_jobs=backend.jobs, return_as="generator_unordered"), True, backend.jobs
        return
    connect = _dask if backend.engine == "dask" else _ray
    with connect(backend.address) as workers, parallel_config(backend.engine, n_jobs=-1):
        streams = backend.engine == "dask"
        yield Parallel(return_as="generator_unordered" if streams else "list"), streams, workers


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
