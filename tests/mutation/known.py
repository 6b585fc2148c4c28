"""Errors that were once in the code, or that no test noticed once: made again with ``--known``.

Each is one text of one file replaced by another. Who rewrites the file moves the error to its new form.
"""

from __future__ import annotations

from .covered import ROOT
from .mutants import Mutant

_LAYOUT = "simulator/workload/step"
_SEARCH = "simulator/explore/search"
ERRORS: dict[str, tuple[str, str, str]] = {
    "first passes wait for no gathered weights": (
        f"{_LAYOUT}/data_parallel.py",
        "segments.pass_start[passes.rank_start[ranks]], last[ranks]",
        "segments.pass_start[passes.rank_start[ranks]][:0], last[ranks][:0]",
    ),
    "parts of the first pass wait for no gather of their own": (
        f"{_LAYOUT}/data_parallel.py",
        "segments.cut_start[first[of_holding]] + bucket[of_bucket], np.arange(len(ops))",
        "(segments.cut_start[first[of_holding]] + bucket[of_bucket])[:0], np.arange(0)",
    ),
    "reductions wait for no backward pass": (
        f"{_LAYOUT}/layout.py",
        "self.wait(index, np.where(follows_previous, previous, after))",
        "self.wait(index[follows_previous], previous[follows_previous])",
    ),
    "kernels lose half of what collectives take from them": (
        "simulator/engines/loops.py",
        "lost_s[at] += overlap * held * share[slot[op]]",
        "lost_s[at] += 0.5 * overlap * held * share[slot[op]]",
    ),
    "1F1B holds a micro-batch too many in the search's bound": (
        f"{_SEARCH}/pipelines.py",
        "np.minimum(microbatches, pp - np.arange(pp))",
        "np.minimum(microbatches, pp + 1 - np.arange(pp))",
    ),
    "the search leaves out nearly every layout with cp": (
        f"{_SEARCH}/shapes.py",
        'rows.cross("pp", "cp")',
        'rows.cross("pp", "cp"); rows.keep("cp", rows.numbers("cp") == 1)',
    ),
    "rules leave out tp beyond the key-value heads": (
        "simulator/files/rules/degrees.py",
        "(heads % tp == 0) | (tp % heads == 0)",
        "heads % tp == 0",
    ),
    "the bound gathers sharded weights once too often": (
        f"{_SEARCH}/data_parallel_bound.py",
        "return microbatches * (1 + reshards), microbatches",
        "return microbatches * (2 + reshards), microbatches",
    ),
    "the bound gathers in every micro-batch what a pipeline keeps": (
        f"{_SEARCH}/data_parallel_bound.py",
        "if keeps_weights_over_step(pp, reshards=reshards, reduces_every=every):",
        "if pp == 1 and keeps_weights_over_step(pp, reshards=reshards, reduces_every=every):",
    ),
    "the bound places data parallelism like tensor parallelism": (
        f"{_SEARCH}/data_parallel_bound.py",
        "layouts.strides(family).dp[pairs]",
        "layouts.strides(family).tp[pairs]",
    ),
    "the bound updates on the GPU what the host updates": (
        f"{_SEARCH}/data_parallel_bound.py",
        'on_gpu = parameters if way.offload == "stream" else',
        'on_gpu = parameters if way.offload != "none" else',
    ),
}


def mutant(name: str) -> Mutant:
    """Return one of the known errors.

    Raises:
        ValueError: Its text does not stand in its file exactly once.
    """
    path, old, new = ERRORS[name]
    source = (ROOT / path).read_text()
    if source.count(old) != 1:
        raise ValueError(f"{path} has {source.count(old)} times what {name!r} replaces: {old}")
    start = len(source[: source.index(old)].encode())
    line = source.count("\n", 0, source.index(old)) + 1
    return Mutant(
        path=path,
        function="",
        line=line,
        runs=(line, line + old.count("\n")),
        start=start,
        end=start + len(old.encode()),
        old=old,
        new=new,
        context=name,
        changed=new,
    )
