"""The notes of a row, clause by clause: what was read of them, and what was not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLAUSE = re.compile(r"(?:[^;.,\n(\[]|\.(?=\S)|\[[^\]]*\]|\([^)]*\)|[(\[])+")
"""A clause ends at a semicolon, a comma or a full stop; what stands in brackets belongs to it."""
_MATTERS = re.compile(
    r"\b(?:cuda|hip|te)[ _]?graphs?|\bgraphs?\b|overlap|\betp\b|expert.tensor"
    r"|expert tp|dispatch|deepep|hybridep"
    r"|all-?to-?all|capacity|token.?drop|recomput|remat|checkpointing|offload|\bcompile|cross.?entropy"
    r"|fused|fusion|optimizer|\badam|adafactor|\bmuon\b|\bsgd\b|\blora\b|document mask|packed|power.?limit"
    r"|\bmtp\b|\bmla\b|sequence parallel|vpp|interleav|accumulation|fp8|nvfp4|quantiz|float8|user ?buffer"
    r"|shard(?:ed)? group|hsdp|layout E",
    re.IGNORECASE,
)
"""Words of what decides speed or memory."""


@dataclass(slots=True)
class Notes:
    """Free text that remembers which spans of it were read.

    Attributes:
        text: The notes.
        spans: Where what was read begins and ends.
    """

    text: str
    spans: list[tuple[int, int]] = field(default_factory=list)

    def search(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return the first match of a pattern, which then counts as read."""
        match = pattern.search(self.text)
        if match is not None:
            self.spans.append(match.span())
        return match

    def says(self, yes: re.Pattern[str], no: re.Pattern[str]) -> bool | None:
        """Tell whether the notes say that something is so, or deny it; None where they do neither."""
        if self.search(no) is not None:
            return False
        return True if self.search(yes) is not None else None

    def findall(self, pattern: re.Pattern[str]) -> list[str]:
        """Return the first group of all matches, which then count as read."""
        matches = list(pattern.finditer(self.text))
        self.spans += [match.span() for match in matches]
        return [match[1] for match in matches]

    def unread(self) -> Iterator[str]:
        """Yield the clauses that speak of what decides speed or memory, and of which nothing was read."""
        for clause in _CLAUSE.finditer(self.text):
            first, last = clause.span()
            if _MATTERS.search(clause[0]) and not any(
                start < last and first < end for start, end in self.spans
            ):
                yield clause[0].strip()
