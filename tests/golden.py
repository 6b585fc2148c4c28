"""The golden record of ``simulator run``: shows that a change of the code changes nothing that a user sees.

    python tests/golden.py compare                       bit by bit; exit code 1 where anything differs
    python tests/golden.py compare --tolerance 1e-12     numbers may differ by so much, relatively
    python tests/golden.py compare --only dualpipe       entries whose name or document holds the text
    python tests/golden.py coverage                      how many entries use each feature
    python tests/golden.py record                        answer anew, with the same scenarios
    python tests/golden.py draw                          draw other scenarios, and record their answers

It measures the ``simulator`` beside this folder, wherever the command is started. The record,
``data/golden_record.json.gz``, holds the shipped scenarios by name, random ones as documents
(``golden_documents.py`` drew them) and rows of the validation by source and id. Of each it holds what
``run --json`` prints, of a row what ``validate --json`` says too, with every float as it is; and of the
commands ``run``, ``check``, ``search`` and ``validate`` the keys of their JSON. The version of the package is
not compared.

Another processor or BLAS rounds sums differently in the last digits: the test compares with a tolerance, a
refactoring on one machine bit by bit. ``digest`` names everything that a scenario holds, so that a new field
of a scenario changes it: ``--ignore digest`` compares the rest.
"""

# ruff: noqa: S311, T201, ANN401  random on purpose; a command that prints; answers are plain data

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "tests")) if path not in sys.path]

import golden_documents as drawing  # noqa: E402  stands beside this file

import simulator  # noqa: E402  that beside this folder, not an installed one
from simulator import files, validation  # noqa: E402

RECORD = ROOT / "tests" / "data" / "golden_record.json.gz"
SEED, RANDOM, CANDIDATES, ROWS = 25350, 150, 8000, 30
MOST_OPS, MOST_SECONDS = 5_000, 0.6
LARGE, LARGE_OPS = 0.03, 25_000
"""Share of candidates that may be larger, and how large."""
SEARCHED = ("--free", "tp=1,2", "--free", "mbs=1,2", "--fix", "pp", "--fix", "vpp", "--fix", "layers")
COMMANDS = {
    "run": ("run", "scenarios/mixtral-8x7b-h100.yaml"),
    "check": ("check", "scenarios/mixtral-8x7b-h100.yaml"),
    "search": ("search", "scenarios/llama3-8b-512.yaml", *SEARCHED, "--front", "memory"),
    "validate": ("validate", "simulator/validation/published/megatron_lm_functional_tests.yaml"),
}
NOISE = 1e-12
"""Of the step, of whose breakdown a part is: a smaller difference is what subtracting equal times leaves."""
SHOWN = 40

Entry = dict[str, Any]
Record = dict[str, Any]


# ---- answers ----


def name_of(entry: Entry) -> str:
    """Return what reports call an entry."""
    if "file" in entry:
        return str(entry["file"])
    return f"{entry['source']}/{entry['id']}" if "id" in entry else str(entry["document"]["name"])


def compact(entry: Entry) -> str:
    """Return an entry as JSON without blanks, to search in."""
    return json.dumps(entry, separators=(",", ":"))


def answer(entry: Entry) -> dict[str, Any]:
    """Simulate an entry: what ``run --json`` prints, and for a row what ``validate --json`` says."""
    if "id" in entry:
        said = _row_answer(entry["source"], entry["id"])
    else:
        said = {"run": simulator.simulate(scenario_of(entry)).to_dict()}
    said["run"].pop("version")
    return json.loads(json.dumps(said))


def scenario_of(entry: Entry) -> simulator.Scenario:
    """Load a shipped scenario or a document; files that this names are written for as long as it takes."""
    if "file" in entry:
        return files.load(ROOT / entry["file"])
    if "files" not in entry:
        return files.from_document(entry["document"])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, lines in entry["files"].items():
            Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return files.from_document(entry["document"])


def _row_answer(source: str, row: str) -> dict[str, Any]:
    """Validate one row as the command does: in a file of its own that has the name of the row's source."""
    results: list[simulator.Result] = []

    def simulate(scenario: simulator.Scenario) -> simulator.Result:
        results.append(simulator.simulate(replace(scenario, engine="event"), quick=True))
        return results[-1]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{source}.yaml"
        path.write_text(json.dumps([published(source)[row]]), encoding="utf-8")
        report = validation.validate([path], simulate=simulate)
    said = report.to_dict()
    said.pop("summary")  # of one row it says what the row says
    return {"validate": said, "run": results[0].to_dict() if results else {"version": ""}}


@cache
def published(source: str) -> dict[str, Any]:
    """Return the rows of a source by id."""
    rows = validation.read_rows([validation.PUBLISHED / f"{source}.yaml"])
    return {row.id: row.content for row in rows}


def command_keys(arguments: tuple[str, ...]) -> list[str]:
    """Run a command with ``--json``; return the paths of its keys, all elements of a list as one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "simulator", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    return sorted(set(key_paths(json.loads(done.stdout))))


def key_paths(data: object, above: str = "") -> Iterator[str]:
    """Yield the path of every value.

    >>> list(key_paths({"a": [{"b": 1}, {"b": 2}]}))
    ['a[].b', 'a[].b']
    """
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from key_paths(value, f"{above}.{key}" if above else str(key))
    elif isinstance(data, list) and data:
        for value in data:
            yield from key_paths(value, f"{above}[]")
    else:
        yield above


# ---- differences ----


@dataclass(frozen=True)
class Difference:
    """Where an answer differs; ``relative`` is infinite for what is no number, or is there only once."""

    entry: str
    path: str
    old: object
    new: object
    relative: float
    is_noise: bool = False

    def __str__(self) -> str:
        size = "other" if math.isinf(self.relative) else f"{self.relative:.3g}"
        return f"{size:>9}  {self.entry}  {self.path}: {_short(self.old)} -> {_short(self.new)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 120 else text[:100] + "..."


def differences(  # noqa: C901  one branch for each kind of value
    entry: str,
    old: Any,
    new: Any,
    path: str = "",
    beside: float = 0.0,
) -> Iterator[Difference]:
    """Yield where two answers differ, in any digit; the order of keys counts.

    Args:
        entry: Name of the entry.
        old: What the record holds.
        new: What the code says.
        path: Where both stand.
        beside: Seconds of the whole step, where its parts are compared; else 0.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if list(old) != list(new):
            yield Difference(entry, f"{path} (keys)", list(old), list(new), math.inf)
        beside = _whole(path, old)
        for key in old:
            if key in new:
                yield from differences(entry, old[key], new[key], f"{path}.{key}" if path else key, beside)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield Difference(entry, f"{path} (elements)", len(old), len(new), math.inf)
        for index, (first, second) in enumerate(zip(old, new, strict=False)):
            yield from differences(entry, first, second, f"{path}[{index}]", beside)
    elif type(old) is float and type(new) is float:
        if repr(old) != repr(new):
            apart, largest = abs(old - new), max(abs(old), abs(new))
            whole = 1.0 if path.endswith("bubble_fraction") else beside
            relative = apart / largest if 0 < largest < math.inf else math.inf
            yield Difference(entry, path, old, new, relative, is_noise=apart <= NOISE * whole)
    elif old != new or type(old) is not type(new):
        yield Difference(entry, path, old, new, math.inf)


def _whole(path: str, parts: dict[str, Any]) -> float:
    """Return the sum of a breakdown's parts, which are differences of times; 0 for any other mapping."""
    return math.fsum(parts.values()) if "breakdown" in path else 0.0


def without(data: Any, ignored: tuple[str, ...]) -> Any:
    """Return an answer without the keys to ignore, wherever they stand."""
    if isinstance(data, dict):
        return {key: without(value, ignored) for key, value in data.items() if key not in ignored}
    return [without(value, ignored) for value in data] if isinstance(data, list) else data


def check(pair: tuple[Entry, Any], ignored: tuple[str, ...] = ()) -> list[Difference]:
    """Simulate an entry and compare with its recorded answer."""
    entry, old = pair
    name = name_of(entry)
    try:
        new = answer(entry)
    except Exception as error:  # noqa: BLE001  whatever stops it is a difference
        return [Difference(name, "(fails)", "an answer", f"{type(error).__name__}: {error}", math.inf)]
    return list(differences(name, without(old, ignored), without(new, ignored)))


def beyond(found: list[Difference], tolerance: float) -> list[Difference]:
    """Return the differences that a tolerance does not allow, largest first; 0 allows none."""
    if tolerance > 0:
        found = [item for item in found if item.relative > tolerance and not item.is_noise]
    return sorted(found, key=lambda item: (-item.relative, item.entry, item.path))


# ---- the record ----


def read_record() -> Record:
    """Return the record."""
    return json.loads(gzip.decompress(RECORD.read_bytes()))


def write_record(entries: list[Entry], jobs: int) -> None:
    """Write entries with their answers, always as the same bytes."""
    with _mapped(jobs) as run_all:
        answers = list(run_all(answer, entries))
    record = {
        "version": files_version(),
        "entries": [{"entry": entry, "answer": said} for entry, said in zip(entries, answers, strict=True)],
        "keys": {name: command_keys(arguments) for name, arguments in COMMANDS.items()},
    }
    text = json.dumps(record, separators=(",", ":")).encode()
    RECORD.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(entries)} entries, {len(text):,} bytes of JSON, {RECORD.stat().st_size:,} compressed")


def files_version() -> str:
    """Return the version that results carry."""
    result = simulator.simulate(simulator.load(ROOT / "scenarios" / "llama-3b-one-h100.yaml"))
    return str(result.to_dict()["version"])


@contextlib.contextmanager
def _mapped(jobs: int) -> Iterator[Any]:
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield partial(pool.map, chunksize=4)


def draw_entries() -> list[Entry]:
    """Return the shipped scenarios, random documents and published rows."""
    shipped: list[Entry] = [
        {"file": str(path.relative_to(ROOT))} for path in sorted((ROOT / "scenarios").glob("*.yaml"))
    ]
    sizes = random.Random(SEED)
    documents = drawing.draw(SEED, RANDOM, CANDIDATES, partial(_features, sizes))
    return [*shipped, *documents, *_drawn_rows()]


def _features(sizes: random.Random, entry: Entry) -> frozenset[str] | None:
    """Return what an entry uses; None where it does not load, or is too large."""
    most = LARGE_OPS if sizes.random() < LARGE else MOST_OPS
    try:
        scenario = scenario_of(entry)
        start = time.perf_counter()
        result = simulator.simulate(scenario)
    except simulator.SimulatorError:
        return None
    if result.timeline.program.num_ops > most or time.perf_counter() - start > MOST_SECONDS:
        return None
    return drawing.features(entry["document"], result.warnings)


def _drawn_rows() -> list[Entry]:
    """Return rows that are simulated: one of each source, then of GPUs and software not there yet."""
    chance = random.Random(SEED)
    rows = list(validation.read_rows([validation.PUBLISHED]))
    chance.shuffle(rows)
    taken: list[Entry] = []
    counts: Counter[str] = Counter()
    while len(taken) < ROWS:
        names = {row.id: (row.source, row.gpu, str(row.content.get("stack"))) for row in rows}
        row = min(rows, key=lambda row: [counts[name] for name in names[row.id]])
        rows.remove(row)
        entry = {"source": row.source, "id": row.id}
        said = answer_or_none(entry)
        if said is None or said["validate"]["rows"][0]["predicted"] is None:
            continue
        counts.update(names[row.id])
        taken.append(entry)
    return taken


def answer_or_none(entry: Entry) -> dict[str, Any] | None:
    """Return the answer, or None for a row that is skipped."""
    said = answer(entry)
    return said if said["run"] else None


# ---- commands ----


def compare(*, tolerance: float, only: str, jobs: int, ignored: tuple[str, ...]) -> int:
    """Print how the answers of the code differ from the record; return the exit code."""
    start = time.perf_counter()
    print(f"simulator: {Path(simulator.__file__).parent}")
    record = read_record()
    pairs = [(item["entry"], item["answer"]) for item in record["entries"]]
    pairs = [pair for pair in pairs if only in name_of(pair[0]) or only in compact(pair[0])]
    with _mapped(jobs) as run_all:
        by_entry = list(run_all(partial(check, ignored=ignored), pairs))
    found = [item for items in by_entry for item in items]
    keys = [] if only else list(_key_differences(record["keys"]))
    left = beyond(found + keys, tolerance)
    same = sum(not items for items in by_entry)
    print(f"bit-identical: {same} of {len(pairs)}")
    if not only:
        print(f"keys of --json equal: {len(record['keys']) - len(keys)} of {len(record['keys'])} commands")
    worst = [
        max(items, key=lambda item: (item.relative, item.path == "run.step_time_s"))
        for items in by_entry
        if items
    ]
    if worst:
        print(f"\nthe largest relative difference of each of {len(worst)} entries:")
        print(*sorted(worst, key=lambda item: -item.relative), sep="\n")
    if left:
        print(f"\n{len(left)} differences" + (f" beyond {tolerance:g}" if tolerance else "") + ":")
        print(*left[:SHOWN], sep="\n")
        if len(left) > SHOWN:
            print(f"... and {len(left) - SHOWN} more")
        print("\nby path:")
        paths = Counter(item.path.partition("[")[0] for item in left)
        print(*(f"{number:>9}  {path}" for path, number in paths.most_common()), sep="\n")
    print(f"\n{time.perf_counter() - start:.1f} s")
    return 1 if left else 0


def _key_differences(recorded: Mapping[str, list[str]]) -> Iterator[Difference]:
    for name, arguments in COMMANDS.items():
        old, new = recorded[name], command_keys(arguments)
        if old != new:
            gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
            yield Difference(f"{name} --json", "(keys)", gone, come, math.inf)


def coverage() -> int:
    """Print how many documents use each feature, and what rows and sources there are."""
    entries = [item["entry"] for item in read_record()["entries"]]
    warned = [tuple(item["answer"]["run"]["warnings"]) for item in read_record()["entries"]]
    counts = Counter(
        name
        for entry, warnings in zip(entries, warned, strict=True)
        if "document" in entry
        for name in drawing.features(entry["document"], warnings)
    )
    print(*(f"{number:>5}  {name}" for name, number in sorted(counts.items())), sep="\n")
    few = {name: number for name, number in counts.items() if number < drawing.wanted(name)}
    print(f"\nbelow what is wanted: {few or 'none'}")
    print("rows:", dict(Counter(entry["source"] for entry in entries if "id" in entry)))
    return 0


def main() -> int:
    """Run a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["compare", "coverage", "record", "draw"])
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative difference that is allowed")
    parser.add_argument("--only", default="", help="entries whose name or document holds this text")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--ignore", action="append", default=[], help="key to leave out, such as digest")
    given = parser.parse_args()
    if given.command == "compare":
        return compare(
            tolerance=given.tolerance, only=given.only, jobs=given.jobs, ignored=tuple(given.ignore)
        )
    if given.command == "coverage":
        return coverage()
    drawn = given.command == "draw"
    write_record(
        draw_entries() if drawn else [item["entry"] for item in read_record()["entries"]], given.jobs
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
