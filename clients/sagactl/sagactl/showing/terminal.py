"""What the output can show: its width, colours and characters."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

_PIPE_COLUMNS = 120
"""How wide drawings are where nobody says so. Tables are as wide as what they hold."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_STYLES = {"red": "31", "green": "32", "amber": "33", "blue": "34", "faint": "2", "bold": "1"}

_PLAIN = str.maketrans(
    {
        "─": "-",
        "│": "|",
        "┌": "+",
        "└": "+",
        "├": "+",
        "┤": "+",
        "✓": "+",
        "✗": "x",
        "↶": "<",
        "○": "o",
        "●": "*",
        "◐": "~",
        "·": ".",
        "◆": "#",
        "?": "?",
        "…": "~",
        "→": ">",
        "⏸": "=",
    }
)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The output: `columns` wide, with or without colours and Unicode; `is_terminal` tells whether a person looks at it."""

    columns: int = _PIPE_COLUMNS
    has_colours: bool = False
    has_unicode: bool = True
    is_terminal: bool = False

    def styled(self, text: str, style: str) -> str:
        """The text in a style (a colour, faint or bold), where the output has colours."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.has_colours and style else text

    def drawn(self, text: str) -> str:
        """The text with the drawing characters that the output has."""
        return text if self.has_unicode else text.translate(_PLAIN)

    def cut(self, text: str, columns: int) -> str:
        """The text in at most so many columns, with a mark where it was cut."""
        if width(text) <= columns:
            return text
        kept, room = "", max(columns - 1, 0)
        for character in text:
            room -= width(character)
            if room < 0:
                break
            kept += character
        return kept + (self.drawn("…") if columns > 0 else "")

    def wrapped(self, text: str, indent: str = "", columns: int | None = None) -> list[str]:
        """The text in lines that fit, each with the indent."""
        room = max((columns or self.columns) - width(indent), 8)
        lines, line = [], ""
        for word in text.split():
            while width(word) > room:  # such as a key, which would run out of the terminal
                if line:
                    lines.append(line)
                    line = ""
                lines.append(word[:room])
                word = word[room:]  # noqa: PLW2901  # what is left of it
            if line and width(line) + 1 + width(word) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        return [indent + each for each in (*lines, line) if each]


def clean(text: object) -> str:
    """The text without characters that would steer the terminal: what a participant sends must not draw on the screen."""
    return _CONTROL.sub(lambda found: " " if found[0] in "\n\t\r" else "\N{REPLACEMENT CHARACTER}", str(text))


def width(text: str) -> int:
    """How many columns the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def padded(text: str, columns: int) -> str:
    """The text with blanks up to so many columns."""
    return text + " " * max(columns - width(text), 0)


def terminal_of(environment: Mapping[str, str], *, colour: str = "auto", is_ascii: bool = False) -> Terminal:
    """The terminal that standard output is, if it is one."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    is_wanted = is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    return Terminal(
        columns=shutil.get_terminal_size((80, 24)).columns if is_terminal else _PIPE_COLUMNS,
        has_colours=colour == "always" or (colour == "auto" and is_wanted),
        has_unicode=not is_ascii and _speaks_unicode(environment),
        is_terminal=is_terminal,
    )


def _speaks_unicode(environment: Mapping[str, str]) -> bool:
    named = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    return "utf" in named.lower() and "utf" in (sys.stdout.encoding or "").lower()


def may_ask() -> bool:
    """Whether there is a person to ask: both what is read and where questions go are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
