"""Real clusters for tests: schedulers and workers as processes of their own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WORKER = "from distributed.cli.dask_worker import main; main()"


@contextmanager
def dask_cluster(
    folder: Path, *options: str, workers: int = 2
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers, these with further options of their command line; yield all of them."""
    from distributed import Client

    found = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    scheduler = subprocess.Popen(
        [sys.executable, "-c", "from distributed.cli.dask_scheduler import main; main()",
         "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(found)],
        **quiet,  # type: ignore[call-overload]
    )  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        while not found.exists() or not found.read_text().rstrip().endswith("}"):
            assert scheduler.poll() is None
            time.sleep(0.1)
        address = json.loads(found.read_text())["address"]
        command = [sys.executable, "-c", _WORKER, address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        command += options
        started += [subprocess.Popen(command, **quiet) for _ in range(workers)]  # type: ignore[call-overload]
        with Client(address, timeout=60) as client:
            if workers:
                client.wait_for_workers(workers, timeout=120)
        yield address, [scheduler, *started]
    finally:
        for process in (*started, scheduler):
            process.kill()
            process.wait()


def ray_environment() -> dict[str, str]:
    """Return the environment of a cluster's processes and of those that use it."""
    shared = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return {**os.environ, **shared, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def ray_cluster(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Start the head of a cluster as a process of its own."""
    address = f"127.0.0.1:{free_port()}"
    log = folder / "ray.log"
    with log.open("w") as stream:
        head = subprocess.Popen(
            [sys.executable, "-c", "from ray.scripts.scripts import main; main()",
             "start", "--head", f"--port={address.rpartition(':')[2]}", "--num-cpus=1", "--block",
             "--include-dashboard=false", "--disable-usage-stats"],
            stdout=stream, stderr=stream, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        head.wait()


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
