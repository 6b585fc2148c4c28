"""The application: finds the verb, turns every error into one message and an exit code.

0: done. 1: the answer is no (it does not fit) or the simulation failed. 2: the request is wrong. 130: Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable

from cyclopts import App, CycloptsError

from simulator.errors import SimulatorError

_VERBS = {
    "run": "Simulate one training step: speed, where the time goes, memory.",
    "check": "Validate a scenario without timing it: derived sizes and memory.",
    "sweep": "Simulate every point of the scenario's 'sweep:' block.",
    "search": "Find the best layout: tp, pp, vpp, micro-batch, sharding, recomputation, ...",
    "montecarlo": "Simulate many steps on GPUs that differ: jitter, stragglers, slow links.",
    "schedule": "Show a pipeline schedule as a picture or in PyTorch's CSV form.",
    "validate": "Compare predictions with published results.",
    "calibrate": "Rerun the fits behind the catalogue's numbers.",
    "measure": "Time a scenario's kernels on the GPU at hand, beside the predictions.",
    "list": "List what the catalogue holds.",
    "show": "Show every number of a catalogue entry with its source.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
}
_BROKEN_PIPE = 141
_INTERRUPTED = 130


def build_app() -> App:
    """Return the application; the code of a verb is imported when it is called."""
    app = App(
        name="simulator",
        help="Simulate the training of large models on thousands of GPUs: dp, tp, pp, cp and ep.",
        help_epilogue="Start with: simulator run scenarios/llama3-405b-16k.yaml",
        version=_version,
        suppress_keyboard_interrupt=False,
    )
    for verb, text in _VERBS.items():
        app.command(f"simulator.cli.{verb}:{verb}_command", name=verb, help=text)
    return app


def run(arguments: Iterable[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What stands after the command's name; that of the process when None.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows '?' for a bar
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        _silence_stdout()
        return _fail(error.strerror or str(error), 1)
    return code


def _run(arguments: list[str]) -> int:
    try:
        code = build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(f"{error}\nrun 'simulator --help' to see the verbs and their options", 2)
    except SimulatorError as error:
        return _fail(str(error), error.exit_code)
    return code if isinstance(code, int) else 0


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return code


def _silence_stdout() -> None:
    """Point stdout to nowhere, so that the interpreter's last flush does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def _version() -> str:
    from importlib.metadata import version

    return version("training-parallelism-simulator")
