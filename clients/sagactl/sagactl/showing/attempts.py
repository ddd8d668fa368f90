"""The attempts of each operation, put together from the entries of a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagactl.showing.entries import entry_text
from sagactl.showing.instants import instant
from sagactl.showing.values import short
from sagactl.spans import in_words

Plain = Mapping[str, Any]

_ANSWERED = "attempt_"


@dataclass
class Attempt:
    """One attempt: when it was made, and what came of it in words, with how long that took."""

    number: int
    started_at: datetime | None = None
    said: list[str] = field(default_factory=list)

    def text(self, now: datetime) -> str:
        """The attempt in one line."""
        if self.said:
            return f"#{self.number} {'; '.join(self.said)}"
        since = f" for {in_words((now - self.started_at).total_seconds())}" if self.started_at else ""
        return f"#{self.number} in flight{since}"


@dataclass
class Operation:
    """An action or a compensation: its attempts, and what else the log says of it."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self, now: datetime) -> list[str]:
        """A line for each attempt, and for each note."""
        return [attempt.text(now) for attempt in self.attempts.values()] + self.notes


@dataclass
class Course:
    """What happened, by step: the action, and its compensation."""

    actions: dict[str, Operation] = field(default_factory=dict)
    compensations: dict[str, Operation] = field(default_factory=dict)


def course_of(log: Iterable[Plain]) -> Course:
    """What the entries say."""
    course = Course()
    for entry in log:
        step = entry.get("step")
        if step:
            is_undo = short(entry.get("operation")) == "COMPENSATION"
            lane = course.compensations if is_undo else course.actions
            _add(lane.setdefault(str(step), Operation()), entry)
    return course


def _add(operation: Operation, entry: Plain) -> None:
    kind, number = str(entry.get("entry_type")), int(entry.get("attempt") or 0)
    at = instant(entry.get("recorded_at"))
    if kind == "attempt_started":
        operation.attempts[number] = Attempt(number, at)
        return
    if not number or not (kind.startswith(_ANSWERED) or kind == "outcome_late"):
        operation.notes.append(entry_text(entry))
        return
    attempt = operation.attempts.setdefault(number, Attempt(number))
    took = (
        f" after {in_words((at - attempt.started_at).total_seconds())}" if at and attempt.started_at else ""
    )
    said, colon, cause = entry_text(entry).partition(":")
    attempt.said.append(f"{said}{took}{colon}{cause}")
