"""``python -m tests.mutation --seed 1 --count 100 --jobs 2``: how many seeded errors some test notices."""

from __future__ import annotations

import argparse
import json
import time

from . import known
from .covered import STORE, covered
from .round import all_mutants, draw, run_round, table

USUAL = ("engines", "durations", "workload", "explore/search")


def main() -> None:
    """Draw errors, try them, and print which no test noticed; all of it in ``.mutation/seed-<seed>.json``."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100, help="errors to draw")
    parser.add_argument("--jobs", type=int, default=2, help="errors tried at a time, one core each")
    parser.add_argument("--folders", nargs="+", default=USUAL, help="folders of simulator/")
    parser.add_argument("--again", action="store_true", help="only the survivors of this seed's last round")
    parser.add_argument("--known", action="store_true", help="the errors of known.py, none drawn")
    options = parser.parse_args()
    record = STORE / f"seed-{options.seed}.json"
    tests = covered(options.jobs)
    if options.known:
        mutants = [known.mutant(name) for name in known.ERRORS]
        record = STORE / "known.json"
    elif options.again:
        keys = [
            row["key"] for row in json.loads(record.read_text())["trials"] if row["verdict"] == "survived"
        ]
        mutants = [mutant for mutant in all_mutants(options.folders) if mutant.key in keys]
        record = record.with_stem(f"seed-{options.seed}-again")
    else:
        mutants = draw(options.folders, tests, options.seed, options.count)
    begun = time.monotonic()
    trials = run_round(mutants, tests, options.jobs)
    content = {"minutes": (time.monotonic() - begun) / 60, "trials": [trial.to_dict() for trial in trials]}
    record.write_text(json.dumps(content, indent=1))
    print(table(trials))
    print(f"{content['minutes']:.0f} minutes; all trials are in {record.relative_to(STORE.parent)}")


if __name__ == "__main__":
    main()
