"""Which query-key pairs an attention mask leaves, in all and on one context-parallel rank."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, log1p

ROUNDING = 1e-9
"""Below this share of its document a query's keys are all in it, up to rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A causal mask, narrowed further.

    Attributes:
        window: Keys that each query sees at most, itself included (sliding window), or None.
        chunk: Length of the chunks that attention never leaves (Llama 4), or None.
        mean_document: Mean length of the documents packed into a sequence, which attention never leaves, or
            None where it crosses them.
    """

    window: int | None = None
    chunk: int | None = None
    mean_document: float | None = None

    def is_narrower_than(self, seq_length: int) -> bool:
        """Tell whether a window or a chunk hides keys that the causal mask leaves."""
        return min(self.window or seq_length, self.chunk or seq_length) < seq_length

    def pairs(self, queries: int) -> float:
        """Count the pairs of the first ``queries`` positions of a sequence, per head.

        >>> Mask().pairs(4), Mask(window=2).pairs(4), Mask(chunk=2).pairs(4)
        (10.0, 7.0, 6.0)
        """
        if self.chunk is None:
            return self._unchunked(queries)
        whole, rest = divmod(queries, self.chunk)
        return whole * self._unchunked(self.chunk) + self._unchunked(rest)

    def _unchunked(self, queries: int) -> float:
        span = queries if self.window is None else min(self.window, queries)
        if self.mean_document is None:
            return span * (span + 1) / 2 + (queries - span) * span
        return _within_documents(queries, span, self.mean_document)


def _within_documents(queries: int, span: int, mean: float) -> float:
    """Count the pairs of queries and keys of one document, at most ``span - 1`` positions apart.

    Only the mean length is known: any token ends its document with the same probability ``1 / mean``, so that
    a key ``d`` positions back is in the query's document with probability ``q^d``, ``q = 1 - 1 / mean``. The
    sum of ``(queries - d) q^d`` over ``d < span`` is a geometric series and its derivative.

    >>> _within_documents(4, 4, 1.0), _within_documents(4, 4, 1e12)
    (4.0, 10.0)
    >>> round(_within_documents(4, 2, 2.0), 9)
    5.5
    """
    if span <= ROUNDING * mean:
        return span * (span + 1) / 2 + (queries - span) * span
    if mean == 1.0:
        return float(queries)
    log_q = log1p(-1.0 / mean)
    kept = -mean * expm1(span * log_q)
    further = -mean * expm1((span - 1) * log_q)
    distance = mean * ((1.0 - 1.0 / mean) * further - (span - 1) * exp(span * log_q))
    return queries * kept - distance


def rank_pairs(mask: Mask, seq_length: int, ranks: int, rank: int, *, balanced: bool) -> float:
    """Count the pairs of one context-parallel rank's queries.

    Balanced ranks hold two chunks each, the ``rank``-th of ``2 ranks`` from the front and from the back
    (zig-zag), otherwise one contiguous part.

    >>> [rank_pairs(Mask(), 8, 2, rank, balanced=True) for rank in (0, 1)]
    [18.0, 18.0]
    >>> [rank_pairs(Mask(), 8, 2, rank, balanced=False) for rank in (0, 1)]
    [10.0, 26.0]
    """
    if not balanced:
        part = seq_length // ranks
        return mask.pairs((rank + 1) * part) - mask.pairs(rank * part)
    part = seq_length // (2 * ranks)
    return sum(mask.pairs((at + 1) * part) - mask.pairs(at * part) for at in (rank, 2 * ranks - 1 - rank))


def heaviest_pairs(mask: Mask, seq_length: int, ranks: int, *, balanced: bool) -> float:
    """Count the pairs of the rank that has most: the others wait for it."""
    if ranks == 1:
        return mask.pairs(seq_length)
    return max(rank_pairs(mask, seq_length, ranks, rank, balanced=balanced) for rank in range(ranks))
