"""The command line: thin verbs over the public API. Results go to stdout, everything else to stderr."""

from simulator.cli.main import main

__all__ = ["main"]
