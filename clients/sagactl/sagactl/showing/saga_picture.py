"""Draws a saga: the forward lane with its attempts, the undo lane beside it, what the saga waits for, and what remains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sagactl.showing.attempts import Course, Operation, course_of
from sagactl.showing.entries import cause_text
from sagactl.showing.instants import day_and_time, from_now, instant
from sagactl.showing.terminal import Terminal, clean, padded, width
from sagactl.showing.values import colour_of, short, worded

Plain = Mapping[str, Any]

SIDE_BY_SIDE_COLUMNS = 90
"""From this width on, the undo lane stands beside the forward lane; below it, under each step."""

_COLUMNS_MAX = 160

_MARKS = {
    "SUCCEEDED": "✓",
    "FAILED": "✗",
    "RUNNING": "●",
    "WAITING": "◐",
    "PENDING": "○",
    "SKIPPED": "·",
    "COMPENSATING": "↶",
    "COMPENSATED": "↶",
}
_DRAWN = frozenset(
    {
        *(
            "saga_id",
            "definition",
            "version",
            "status",
            "start_key",
            "input",
            "labels",
            "failure",
            "remaining_effects",
        ),
        *("started_at", "ended_at", "deadline_at", "steps", "sequence", "owner", "output", "output_problem"),
        *("parent_saga_id", "parent_step", "outputs_omitted", "input_omitted", "steps_omitted"),
    }
)
"""The fields that the drawing shows, or leaves out on purpose. Whatever else a newer server sends is listed below it."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn: the saga, its log, its definition if that is known, and the present time."""

    saga: Plain
    log: Sequence[Plain]
    definition: Plain
    now: datetime
    terminal: Terminal

    def text(self) -> str:
        """The whole drawing."""
        parts = (self._head(), self._lanes(), self._waits(), self._remains(), self._others())
        return "\n".join(
            itertools.chain.from_iterable([*part, ""] for part in map(list, parts) if part)
        ).rstrip()

    def _head(self) -> Iterator[str]:
        saga, terminal = self.saga, self.terminal
        status = short(saga.get("status"))
        title = f"{clean(saga.get('definition'))}@{saga.get('version')}  {terminal.styled(status, colour_of(status))}"
        beside = f"{title}  {saga.get('saga_id')}"
        yield from (
            [beside] if width(_unstyled(beside)) <= terminal.columns else [title, str(saga.get("saga_id"))]
        )
        ended = instant(saga.get("ended_at"))
        told = [
            f"start key {clean(saga.get('start_key'))}",
            f"started {day_and_time(instant(saga.get('started_at')))}",
            f"ended {day_and_time(ended)}"
            if ended
            else f"{from_now(instant(saga.get('started_at')), self.now)}",
        ]
        if saga.get("deadline_at") and not ended:
            told.append(f"deadline {from_now(instant(saga['deadline_at']), self.now)}")
        if saga.get("owner"):
            told.append(f"driven by {clean(saga['owner'])}")
        if saga.get("parent_saga_id"):
            told.append(f"step {saga.get('parent_step')} of saga {saga['parent_saga_id']}")
        if saga.get("labels"):
            told.append(f"labels {clean(worded(saga['labels']))}")
        yield from terminal.wrapped(" · ".join(told) if terminal.has_unicode else " | ".join(told))
        if saga.get("failure"):
            step = saga["failure"].get("step")
            where = f" at {step}" if step else ""
            yield from terminal.wrapped(f"failed{where}: {cause_text(saga['failure'])}")
        if saga.get("output_problem"):
            yield from terminal.wrapped(f"its output could not be computed: {clean(saga['output_problem'])}")

    def _lanes(self) -> Iterator[str]:
        course = course_of(self.log)
        blocks = [
            (self._forward(step, course), self._undo(step, course)) for step in self.saga.get("steps") or ()
        ]
        if self._is_beside and course.compensations:
            yield from self._beside(blocks)
        else:
            for forward, undo in blocks:
                yield from forward
                yield from (f"    {line}" for line in undo)
        if self.saga.get("steps_omitted"):
            yield f"and {self.saga['steps_omitted']} more steps, which do not fit into an answer"
        if course.actions:
            mark = self.terminal.drawn("…")
            for line in self.terminal.wrapped(f"{mark} stands for {self.saga.get('saga_id')}"):
                yield self.terminal.styled(line, "faint")

    def _beside(self, blocks: Sequence[tuple[list[str], list[str]]]) -> Iterator[str]:
        columns = self._lane_columns
        bar = self.terminal.drawn("│")
        yield f"{padded('forward, down', columns)} {bar} undo, up"
        yield self.terminal.drawn("─" * columns + "─┼─" + "─" * columns).replace(
            "┼", "+" if not self.terminal.has_unicode else "┼"
        )
        for forward, undo in blocks:
            for left, right in itertools.zip_longest(forward, undo, fillvalue=""):
                yield f"{self._padded(left, columns)} {bar} {self._cut(right, columns)}".rstrip()

    def _padded(self, text: str, columns: int) -> str:
        cut = self._cut(text, columns)
        return cut + " " * max(columns - width(_unstyled(cut)), 0)

    def _cut(self, text: str, columns: int) -> str:
        plain = _unstyled(text)
        return text if width(plain) <= columns else self.terminal.cut(plain, columns)

    def _forward(self, step: Plain, course: Course) -> list[str]:
        status, name = short(step.get("status")), clean(step.get("name"))
        mark = self.terminal.drawn(_MARKS.get(status, "?"))
        traits = [
            trait for trait in ("pivot", "read_only", "irreversible") if self._declared(name).get(trait)
        ]
        effect = short(step.get("effect")).lower()
        told = [status, *([f"effect {effect}"] if effect not in ("", "none") else []), *traits]
        head = f"{mark} {self.terminal.styled(name, 'bold')}  {self.terminal.styled(' '.join(told), colour_of(status))}"
        return [
            self._cut(head, self._lane_columns),
            *self._operation(course.actions.get(str(step.get("name"))), name, "action"),
        ]

    def _undo(self, step: Plain, course: Course) -> list[str]:
        operation = course.compensations.get(str(step.get("name")))
        if operation is None:
            return []
        status = short(step.get("status"))
        text = self.terminal.drawn(f"↶ undo of {clean(step.get('name'))}")
        head = self.terminal.styled(self.terminal.cut(text, self._lane_columns), colour_of(status))
        return [head, *self._operation(operation, clean(step.get("name")), "compensation")]

    def _operation(self, operation: Operation | None, name: str, kind: str) -> list[str]:
        if operation is None:
            return []
        columns = self._lane_columns
        told = [clean(line) for line in operation.lines(self.now)]
        lines = [line for each in told for line in self.terminal.wrapped(each, "    ", columns)]
        if operation.attempts:
            key = self.terminal.drawn(f"key …/{name}/{kind}")
            lines += [
                self.terminal.styled(line, "faint") for line in self.terminal.wrapped(key, "    ", columns)
            ]
        return lines

    @property
    def _is_beside(self) -> bool:
        return self.terminal.columns >= SIDE_BY_SIDE_COLUMNS

    @property
    def _lane_columns(self) -> int:
        """How wide a lane is: half of a wide terminal; of a narrow one, all but the indent of the undo."""
        return (
            (min(self.terminal.columns, _COLUMNS_MAX) - 3) // 2
            if self._is_beside
            else self.terminal.columns - 4
        )

    def _declared(self, name: str) -> Plain:
        """The step as the definition declares it; for a step in a block, by the last part of its key."""
        last = name.rpartition(".")[2].partition("[")[0]
        found = (step for step in _all_steps(self.definition.get("steps") or ()) if step.get("name") == last)
        return next(found, {})

    def _waits(self) -> Iterator[str]:
        parked = [entry for entry in self.log if entry.get("entry_type") == "saga_parked"]
        for text in waits_for(self.saga, self.now, parked[-1] if parked else {}):
            yield from self.terminal.wrapped(f"waits for: {clean(text)}")

    def _remains(self) -> Iterator[str]:
        remaining = self.saga.get("remaining_effects") or ()
        if remaining:
            for line in self.terminal.wrapped(
                f"effects that remain or may remain: {clean(', '.join(remaining))}"
            ):
                yield self.terminal.styled(line, "red")
        if self.saga.get("output") is not None:
            yield from self.terminal.wrapped(f"output: {clean(worded(self.saga['output']))}")

    def _others(self) -> Iterator[str]:
        others = {
            name: value
            for name, value in self.saga.items()
            if name not in _DRAWN and value not in ("", None, [], {}, False, 0)
        }
        for name, value in others.items():
            yield from self.terminal.wrapped(f"{name}: {clean(worded(value))}")


def waits_for(saga: Plain, now: datetime, parked: Plain) -> Iterator[str]:
    """What the saga waits for, step by step. `parked` is the entry by which it was left to a person, if it was."""
    if short(saga.get("status")) == "NEEDS_ATTENTION":
        cause = (parked.get("body") or {}).get("cause") or saga.get("failure")
        yield f"a person, because of {cause_text(cause) or 'what the log says'}"
    for step in saga.get("steps") or ():
        name, state = step.get("name"), short(step.get("status"))
        if step.get("retry_at"):
            yield f"{name}: the next attempt, {from_now(instant(step['retry_at']), now)}"
        elif step.get("awaited_event"):
            correlation = f" about {step['awaited_correlation']}" if step.get("awaited_correlation") else ""
            yield f"{name}: the event {step['awaited_event']}{correlation}{_limit(step, now)}"
        elif state == "WAITING" and step.get("shown") is not None:
            yield f"{name}: a person's decision{_limit(step, now)}, who sees {worded(step['shown'])}"
        elif state == "WAITING":
            yield f"{name}: an outcome, a decision or a time{_limit(step, now)}"
        elif state in ("RUNNING", "COMPENSATING") and step.get("attempt"):
            yield f"{name}: the answer to attempt {step['attempt']}"


def _limit(step: Plain, now: datetime) -> str:
    return (
        f", at most until {from_now(instant(step['waiting_until']), now)}"
        if step.get("waiting_until")
        else ""
    )


def _all_steps(steps: Sequence[Plain]) -> Iterator[Plain]:
    for step in steps:
        yield step
        for block in (step.get("for_each"), step.get("repeat"), *_cases(step)):
            yield from _all_steps((block or {}).get("steps") or ())


def _cases(step: Plain) -> list[Plain | None]:
    switch = step.get("switch") or {}
    return [*(switch.get("cases") or ()), switch.get("otherwise")]


def _unstyled(text: str) -> str:
    import re  # noqa: PLC0415

    return re.sub(r"\x1b\[\d*m", "", text)
