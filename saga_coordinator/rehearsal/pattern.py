"""A short text that matches a regular expression of the plain kind: characters, classes, groups, alternatives, counts."""

from __future__ import annotations

import re

REPEATS_MAX = 64

_CLASSES = {"d": "1", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_COUNT = re.compile(r"\{(\d{1,4})(?:,\d{0,4})?\}")


def text_matching(pattern: str) -> str | None:
    """A text that matches the pattern, as short as the counts allow; None if the pattern uses a feature that is not known
    here.
    """
    reader = _Reader(pattern)
    try:
        text = reader.alternatives()
    except (IndexError, ValueError, StopIteration, re.error):
        return None
    return text if reader.is_at_end else None


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._pattern)

    def alternatives(self) -> str:
        """The first alternative; the others are read over."""
        first = self._sequence()
        while not self.is_at_end and self._pattern[self._at] == "|":
            self._at += 1
            self._sequence()
        return first

    def _sequence(self) -> str:
        text = ""
        while not self.is_at_end and self._pattern[self._at] not in "|)":
            text += self._repeated(self._atom())
        return text

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _atom(self) -> str:
        match self._next():
            case "^" | "$":
                return ""
            case ".":
                return "a"
            case "[":
                return self._class()
            case "(":
                if self._pattern.startswith("?:", self._at):
                    self._at += 2
                elif self._pattern[self._at] == "?":
                    raise ValueError("a group that does more than to group")
                inner = self.alternatives()
                if self._next() != ")":
                    raise ValueError("a group without end")
                return inner
            case "\\":
                return self._escaped()
            case character:
                return character

    def _escaped(self) -> str:
        character = self._next()
        if character.isalnum() and character not in _CLASSES:
            raise ValueError("an escape of another kind")
        return _CLASSES.get(character, character)

    def _class(self) -> str:
        """The first character of the class. If the class excludes characters, some character that it does not exclude."""
        is_negated = self._pattern[self._at] == "^"
        self._at += is_negated
        start = self._at
        first = self._next()
        first = self._escaped() if first == "\\" else first
        while self._next() != "]":
            self._at += self._pattern[self._at - 1] == "\\"
        if not is_negated:
            return first
        whole = re.compile(f"[^{self._pattern[start : self._at]}")
        return next(each for each in "a1A-_ é" if whole.match(each))

    def _repeated(self, atom: str) -> str:
        if self.is_at_end:
            return atom
        counted = _COUNT.match(self._pattern, self._at)
        if counted:
            self._at = counted.end()
            count = min(int(counted[1]), REPEATS_MAX)
        elif self._pattern[self._at] in "*+?":
            count = 0 if self._next() in "*?" else 1
        else:
            return atom
        if self._pattern.startswith("?", self._at):  # taking as few as it can changes nothing
            self._at += 1
        return atom * count
