"""The screen of `sagactl top`, made of two looks at the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagactl.showing.entries import cause_text
from sagactl.showing.instants import from_now, instant
from sagactl.showing.terminal import Terminal, clean, padded
from sagactl.showing.values import colour_of, short

Plain = Mapping[str, Any]

COUNTED_MAX = 1000
"""How many sagas of a status are counted at most: the server has no counts yet, so they are listed."""
UNFINISHED = ("RUNNING", "COMPENSATING", "NEEDS_ATTENTION")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What the server said at one moment: the unfinished sagas by status, the newest sagas, and the participants."""

    at: datetime
    address: str
    sagas: Mapping[str, Sequence[Plain]]
    newest: Sequence[Plain]
    participants: Sequence[Plain]
    problem: str = ""

    def counts(self) -> dict[str, int]:
        """How many sagas are in each unfinished status, at most `COUNTED_MAX`."""
        return {status: len(found) for status, found in self.sagas.items()}

    def started_a_second(self, before: Look | None) -> float | None:
        """The rate of starts since the look before; None without one."""
        if before is None or self.at <= before.at:
            return None
        known = {saga["saga_id"] for saga in before.newest}
        fresh = [saga for saga in self.newest if saga["saga_id"] not in known]
        return len(fresh) / (self.at - before.at).total_seconds()

    def plain(self, before: Look | None) -> dict[str, Any]:
        """The look for programs."""
        return {
            "at": self.at.isoformat(),
            "counts": self.counts(),
            "counted_max": COUNTED_MAX,
            "started_a_second": self.started_a_second(before),
            "participants": [_of_participant(each) for each in self.participants],
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class Screen:
    """A look, drawn for a terminal."""

    look: Look
    before: Look | None
    terminal: Terminal
    rows: int = field(default=24)

    def lines(self) -> list[str]:
        """The lines of the screen, none wider than the terminal and no more than it has."""
        return [
            self.terminal.cut(line, self.terminal.columns) if "\x1b" not in line else line
            for line in self._lines()
        ][: self.rows]

    def _lines(self) -> Iterator[str]:
        look = self.look
        yield f"{look.address}  {look.at:%H:%M:%SZ}" + (
            f"  {self.terminal.styled(look.problem, 'red')}" if look.problem else ""
        )
        rate = look.started_a_second(self.before)
        counts = look.counts()
        told = [
            f"{_counted(counts.get(status, 0))} {status.lower().replace('_', ' ')}" for status in UNFINISHED
        ]
        yield "  ".join([*told, f"{rate:.1f} started/s" if rate is not None else ""]).rstrip()
        yield ""
        yield from self._participants()
        yield from self._unwell()

    def _participants(self) -> Iterator[str]:
        if not self.look.participants:
            return
        yield self.terminal.styled(
            f"{'PARTICIPANT':<20} {'BREAKER':<10} {'FLIGHT':>6} {'QUEUED':>6} {'FAILED':>6}  LAST FAILURE",
            "bold",
        )
        for status in self.look.participants[: self.rows // 2]:
            said = _of_participant(status)
            breaker = self.terminal.styled(padded(said["breaker"], 10), colour_of(said["breaker"]))
            name = padded(self.terminal.cut(clean(said["name"]), 20), 20)
            room = max(self.terminal.columns - 55, 0)
            cause = self.terminal.cut(said["last_failure"], room)
            yield f"{name} {breaker} {said['in_flight']:>6} {said['queued']:>6} {said['failed']:>6.0%}  {cause}".rstrip()
        yield ""

    def _unwell(self) -> Iterator[str]:
        for status in ("NEEDS_ATTENTION", "COMPENSATING"):
            found = self.look.sagas.get(status, ())
            if not found:
                continue
            yield self.terminal.styled(f"{status} ({_counted(len(found))})", colour_of(status))
            for saga in found[:_SHOWN]:
                when = from_now(instant(saga.get("started_at")), self.look.at)
                yield self.terminal.cut(
                    f"  {saga['saga_id']}  {clean(saga['definition'])}  {when}  {cause_text(saga.get('failure'))}",
                    self.terminal.columns,
                )


def _of_participant(status: Plain) -> dict[str, Any]:
    return {
        "name": status["participant"]["name"],
        "breaker": short(status["breaker"]),
        "in_flight": status["in_flight"],
        "queued": status["queued"],
        "failed": status["failure_ratio"],
        "last_failure": cause_text(status.get("last_failure")),
    }


def _counted(count: int) -> str:
    return f"{count}+" if count >= COUNTED_MAX else str(count)
