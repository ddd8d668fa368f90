"""How a command ends: the exit codes, and the error that carries one.

Problem
├── WrongUsage      the command was called wrongly
├── NotFound        what was asked for is not there
├── Refused         the server said no
├── Unavailable     nobody answered, or not in time
├── Denied          the caller may not do this
├── PartlyDone      some of it was done
├── Lacking         the server does not have what the command needs
└── Defect          the server failed, or this program did
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Ending(IntEnum):
    """The exit codes, by kind. Scripts rely on them, so a number never changes its meaning."""

    DONE = 0
    NO = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAVAILABLE = 5
    DENIED = 6
    PARTLY_DONE = 7
    LACKING = 8
    DEFECT = 9
    INTERRUPTED = 130
    UNREAD = 141


MEANINGS: dict[Ending, str] = {
    Ending.DONE: "done",
    Ending.NO: "the answer is no: not healthy, a difference, changes to apply, a saga that did not complete",
    Ending.USAGE: "called wrongly: a flag, an argument, a file or a context",
    Ending.NOT_FOUND: "not found: no such saga, definition, participant",
    Ending.REFUSED: "refused: the server said no, and why",
    Ending.UNAVAILABLE: "unavailable: nobody answered, or not in time",
    Ending.DENIED: "denied: the caller is not known, or may not do this",
    Ending.PARTLY_DONE: "partly done: the output says what was done and what was not",
    Ending.LACKING: "lacking: the server does not have the method or field that the command needs",
    Ending.DEFECT: "a defect of the server or of this program",
    Ending.INTERRUPTED: "interrupted by Ctrl-C",
    Ending.UNREAD: "the reader of the output went away, as `head` does",
}
"""What each exit code means; the documentation lists it."""


class Problem(Exception):
    """An error that ends the command. Each of `lines` is one message for people; `details` is the same for programs."""

    ending: ClassVar[Ending] = Ending.DEFECT

    def __init__(self, *lines: str, details: dict[str, object] | None = None) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines
        self.details = details or {}


class Declined(Problem):
    ending = Ending.NO


class WrongUsage(Problem):
    ending = Ending.USAGE


class NotFound(Problem):
    ending = Ending.NOT_FOUND


class Refused(Problem):
    ending = Ending.REFUSED


class Unavailable(Problem):
    ending = Ending.UNAVAILABLE


class Denied(Problem):
    ending = Ending.DENIED


class PartlyDone(Problem):
    ending = Ending.PARTLY_DONE


class Lacking(Problem):
    ending = Ending.LACKING


class Defect(Problem):
    ending = Ending.DEFECT
