"""Entries of a saga's log in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sagactl.showing.instants import clock, instant, of_epoch
from sagactl.showing.terminal import clean
from sagactl.showing.values import short
from sagactl.spans import in_words

Plain = Mapping[str, Any]


def cause_text(cause: Plain | None) -> str:
    """A cause in one line: its code, its message, and who asked for it."""
    if not cause:
        return ""
    by = f" (asked by {cause['requested_by']})" if cause.get("requested_by") else ""
    message = f": {cause['message']}" if cause.get("message") else ""
    return clean(f"{cause.get('code', '')}{message}{by}")


def _with_cause(said: str) -> Callable[[Plain], str]:
    return lambda body: f"{said}: {cause_text(body.get('cause'))}" if body.get("cause") else said


def _retried(said: str) -> Callable[[Plain], str]:
    def text(body: Plain) -> str:
        pause = body.get("retry_delay_seconds")
        again = f"; again in {in_words(pause)}" if isinstance(pause, int | float) else ""
        return f"{_with_cause(said)(body)}{again}"

    return text


def _until(said: str, *names: str) -> Callable[[Plain], str]:
    def text(body: Plain) -> str:
        at = next((found for name in names if (found := of_epoch(body.get(name)))), None)
        return f"{said} until {clock(at)}" if at else said

    return text


def _parked(body: Plain) -> str:
    remaining = ", ".join(map(str, body.get("remaining") or ()))
    return f"{_with_cause('needs a person')(body)}" + (f"; remaining: {remaining}" if remaining else "")


def _waiting(body: Plain) -> str:
    event = (
        f" for the event {body['event']} ({body.get('correlation') or 'any correlation'})"
        if body.get("event")
        else ""
    )
    return _until(f"waits{event}", "until")(body)


_WORDS: Mapping[str, Callable[[Plain], str]] = {
    "saga_started": lambda body: f"the saga started: {body.get('definition')}@{body.get('version')}",
    "saga_adopted": lambda body: (
        f"another coordinator took over from {body.get('previous_owner') or 'nobody'}"
    ),
    "attempt_started": lambda body: "called",
    "attempt_succeeded": lambda body: "succeeded",
    "attempt_refused": _with_cause("refused"),
    "attempt_unknown": _retried("unknown"),
    "attempt_unresolved": _with_cause("unknown, and given up"),
    "attempt_pending": _until("accepted, the outcome comes later", "pending_until"),
    "attempt_held": _retried("held"),
    "nothing_to_undo": _with_cause("there was nothing to undo"),
    "input_invalid": _with_cause("the input cannot be computed"),
    "outcome_late": lambda body: _with_cause(f"a late outcome: {body.get('outcome', '')}")(body),
    "step_skipped": lambda body: "skipped",
    "step_failed": _with_cause("failed"),
    "wait_started": _waiting,
    "block_opened": lambda body: "the block begins",
    "block_closed": lambda body: "the block is over",
    "event_received": lambda body: f"got the event {body.get('name')} ({body.get('event_id')})",
    "saga_failed": _with_cause("the saga turns back"),
    "saga_recalled": _with_cause("the saga is recalled"),
    "saga_completed": lambda body: "the saga has completed",
    "saga_compensated": lambda body: "the saga is compensated: every effect was undone",
    "saga_parked": _parked,
    "saga_unparked": lambda body: "the saga goes on",
    "undo_unparked": lambda body: "the undo goes on",
}


def entry_text(entry: Plain) -> str:
    """What the entry says. An entry of a type that nobody here knows is shown with all that it holds."""
    body = entry.get("body") or {}
    words = _WORDS.get(str(entry.get("entry_type")))
    if words is None:
        return clean(
            f"{entry.get('entry_type')} {json.dumps(body, ensure_ascii=False) if body else ''}".rstrip()
        )
    return clean(words(body))


def entry_line(entry: Plain) -> str:
    """The entry in one line, with when and what it is about."""
    operation = short(entry.get("operation")).lower()
    attempt = f" #{entry['attempt']}" if entry.get("attempt") else ""
    about = f"{entry['step']} {operation}{attempt}".rstrip() if entry.get("step") else "saga"
    return f"{clock(instant(entry.get('recorded_at')))}  {clean(about):<24}  {entry_text(entry)}"
