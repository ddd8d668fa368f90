"""The screens of sagactl in docs/sagactl.md: one story at one moment, drawn by the program itself, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sagactl.showing.entries import entry_line
from sagactl.showing.saga_picture import Drawing
from sagactl.showing.terminal import Terminal
from sagactl.showing.top_screen import Look, Screen

NOW = datetime(2026, 3, 2, 9, 30, 12, tzinfo=UTC)
SAGA_ID = "019cadd2-7d40-7c51-9d7b-5b0f3f6f2a11"
_STARTED = NOW - timedelta(seconds=12)

DEFINITION: Mapping[str, Any] = {
    "steps": [
        {"name": "reserve"},
        {"name": "charge"},
        {"name": "notify", "irreversible": True},
        {"name": "ship", "pivot": True},
    ]
}


def _entry(seconds: float, kind: str, about: str = "", attempt: int = 0, **body: Any) -> dict[str, Any]:
    """An entry so many seconds after the start. `about` is a step, with `!` behind it for its compensation."""
    step = about.rstrip("!")
    operation = "COMPENSATION" if about.endswith("!") else "ACTION" if attempt else "UNSPECIFIED"
    return {
        "entry_type": kind,
        "step": step,
        "operation": f"OPERATION_KIND_{operation}",
        "attempt": attempt,
        "body": body,
        "recorded_at": (_STARTED + timedelta(seconds=seconds)).isoformat(),
    }


def _cause(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


_AWAY = _cause("UNAVAILABLE", "connection refused")
_DECLINED = _cause("FAILED_PRECONDITION", "the card was declined")
_CLOSED = _cause("FAILED_PRECONDITION", "the reservation was picked already")

LOG: tuple[dict[str, Any], ...] = (
    _entry(0, "saga_started", definition="order-fulfilment", version=3),
    _entry(0.01, "attempt_started", "reserve", 1),
    _entry(0.05, "attempt_succeeded", "reserve", 1),
    _entry(0.05, "attempt_started", "charge", 1),
    _entry(2.05, "attempt_unknown", "charge", 1, cause=_AWAY, retry_delay_seconds=0.18),
    _entry(2.24, "attempt_started", "charge", 2),
    _entry(2.61, "attempt_refused", "charge", 2, cause=_DECLINED),
    _entry(2.61, "saga_failed", cause=_DECLINED),
    _entry(2.61, "attempt_started", "charge!", 1),
    _entry(2.7, "attempt_succeeded", "charge!", 1),
    _entry(2.7, "attempt_started", "reserve!", 1),
    _entry(2.75, "attempt_refused", "reserve!", 1, cause=_CLOSED),
    _entry(2.75, "saga_parked", cause=_CLOSED, remaining=["reserve"]),
)


def _step(name: str, status: str, effect: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": f"STEP_STATUS_{status}",
        "effect": f"EFFECT_{effect}",
        "attempt": 0,
        **more,
    }


SAGA: Mapping[str, Any] = {
    "saga_id": SAGA_ID,
    "definition": "order-fulfilment",
    "version": 3,
    "status": "SAGA_STATUS_NEEDS_ATTENTION",
    "start_key": "order-1042",
    "labels": {"region": "eu"},
    "failure": {**_DECLINED, "step": "charge"},
    "remaining_effects": ["reserve"],
    "started_at": _STARTED.isoformat(),
    "deadline_at": (_STARTED + timedelta(minutes=5)).isoformat(),
    "steps": [
        _step("reserve", "COMPENSATING", "CERTAIN"),
        _step("charge", "COMPENSATED", "POSSIBLE"),
        _step("notify", "PENDING", "NONE"),
        _step("ship", "PENDING", "NONE"),
    ],
    "sequence": len(LOG),
}

_PARTICIPANTS = [
    {
        "participant": {"name": name},
        "breaker": f"BREAKER_STATE_{breaker}",
        "in_flight": in_flight,
        "queued": queued,
        "failure_ratio": ratio,
        "last_failure": failure,
    }
    for name, breaker, in_flight, queued, ratio, failure in (
        ("inventory", "CLOSED", 14, 0, 0.0, None),
        ("payments", "OPEN", 0, 0, 0.97, _AWAY),
        ("shipping", "CLOSED", 3, 0, 0.01, _AWAY),
    )
]


def show(columns: int) -> str:
    """The screen of `sagactl sagas show` at that width."""
    return Drawing(SAGA, LOG, DEFINITION, NOW, Terminal(columns)).text()


def watch() -> str:
    """The lines of `sagactl sagas watch`."""
    return "\n".join(map(entry_line, LOG))


def top() -> str:
    """The screen of `sagactl top`, two seconds after the look before."""
    sagas: Mapping[str, Sequence[Mapping[str, Any]]] = {
        "RUNNING": [_short(number, "RUNNING") for number in range(212)],
        "COMPENSATING": [_short(number, "COMPENSATING") for number in range(2)],
        "NEEDS_ATTENTION": [SAGA],
    }
    newest = [_short(number, "RUNNING") for number in range(97)]
    before = Look(NOW - timedelta(seconds=2), "prod:7242", sagas, newest[60:], _PARTICIPANTS)
    look = Look(NOW, "prod:7242", sagas, newest, _PARTICIPANTS)
    return "\n".join(line.rstrip() for line in Screen(look, before, Terminal(100), rows=24).lines())


def _short(number: int, status: str) -> dict[str, Any]:
    return {
        "saga_id": f"019cadd2-7d40-7c51-9d7b-{number:012x}",
        "definition": "order-fulfilment",
        "status": f"SAGA_STATUS_{status}",
        "started_at": (NOW - timedelta(seconds=1 + number)).isoformat(),
        "failure": _DECLINED if status == "COMPENSATING" else None,
    }


def screens() -> Iterator[tuple[str, str]]:
    """Each screen with the command line that shows it."""
    yield "sagactl sagas show key:order-1042", show(100)
    yield (
        "sagactl sagas show key:order-1042 --ascii    # at 40 columns",
        Drawing(SAGA, LOG, DEFINITION, NOW, Terminal(40, has_unicode=False)).text(),
    )
    yield "sagactl sagas watch key:order-1042", watch()
    yield "sagactl top", top()
