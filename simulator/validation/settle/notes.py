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
    r"\b(?:cuda|hip|te)[ _-]?graph|\bgraphs?\b|enable_cuda_graph|overlap|\betp(?:\b|\d)|expert.tensor"
    r"|experts?.tp|tensor.parallel\w* (?:of|in) (?:the )?experts|dispatch|deep-?ep\b|hybrid-?ep\b"
    r"|all-?to-?all|capacity|token.?drop|\btokens? (?:is|are|were) dropped|drop and pad"
    r"|recomput|remat|checkpointing|\b(?:full|selective) ac\b|offload|host memory|\bcompile|cross.?entropy"
    r"|fused|fusion|8-?bit|optimizer|\badam|adafactor|\bmuon\b|\bsgd\b|\blora\b|document mask|packed"
    r"|power.?(?:limit|cap)|chunked|loss chunks|router balanc|padded to the longest|truncated"
    r"|\bmtp\b|\bmla\b|sequence parallel|vpp|interleav|accumulation|fp8|nvfp4|quantiz|float8|user ?buffer"
    r"|shard(?:ed)? group|hsdp|layout E",
    re.IGNORECASE,
)
"""Words of what decides speed or memory."""
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:no|not|non|without|never|neither|nor|lacks?|instead of|rather than)\b|n't\b)"
    r"(?:[\W_]+(?!and\b|but\b|with\b)\w+){0,2}[\W_]*$",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"^[\s:=\"'\]_]*(?:(?:is|are|was|were|overlap|overlapping|set to|turned|switched)[\s:=\"']+)*"
    r"(?:not\b|off\b|disabled\b|false\b|unused\b|none\b|unset\b|no\b|never\b)",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"\bnot (?:stated|given|said|specified|known|reported|mentioned)\b|\bun(?:stated|known|clear|specified)\b"
    r"|\bwhether\b|\blikely\b|\bprobably\b|\bmay(?:be)?\b|\bassumed\b",
    re.IGNORECASE,
)
"""Words of a clause that leaves open what it speaks of."""
_REMARK = re.compile(r"\([^)]*\)")
_ENDS = re.compile(r"[;,\n(]|\.(?=\s|$)")


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

    def affirmed(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return the first match that its clause neither denies nor leaves open; denials count as read."""
        for match in pattern.finditer(self.text):
            if (said := self._polarity(match)) is not None:
                self.spans.append(match.span())
            if said:
                return match
        return None

    def says(self, yes: re.Pattern[str], no: re.Pattern[str] | None = None) -> bool | None:
        """Tell whether the notes say that something is so, or deny it; None where they do neither.

        Args:
            yes: What says it; a denial beside it ("no ...", "... is off", "instead of ...") counts.
            no: Wordings that deny it on their own.
        """
        if no is not None and self.search(no) is not None:
            return False
        if self.affirmed(yes) is not None:
            return True
        return False if self.denies(yes) else None

    def denies(self, pattern: re.Pattern[str]) -> bool:
        """Tell whether a clause denies what a pattern matches."""
        denials = [match for match in pattern.finditer(self.text) if self._polarity(match) is False]
        self.spans += [match.span() for match in denials]
        return bool(denials)

    def _polarity(self, match: re.Match[str]) -> bool | None:
        """Tell whether the clause of a match affirms or denies it; None where it leaves it open."""
        start = max((end.end() for end in _ENDS.finditer(self.text, 0, match.start())), default=0)
        next_end = _ENDS.search(self.text, match.end())
        before = self.text[start : match.start()]
        behind = self.text[match.end() : next_end.start() if next_end else len(self.text)]
        remark = _REMARK.match(self.text, match.end() + len(behind))
        if _OPEN.search(f"{before} {match[0]} {behind} {remark[0] if remark else ''}"):
            return None
        return not (_DENIED_BEFORE.search(before) or _DENIED_BEHIND.search(behind))

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
