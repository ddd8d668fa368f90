"""Writes the lines about sagas in the program's log: one for each saga that needs a person, and more for those who watch."""

from __future__ import annotations

import structlog

from saga_coordinator.engine.runs import Run
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.outcome import Cause

_SHOWN_CHARACTERS_MAX = 300

_log = structlog.get_logger(__name__)


class LogLines:
    """Writes log lines. If `is_chatty`, each start, turn and end gets a line at level info, which may be thousands a second."""

    def __init__(self, *, is_chatty: bool = False) -> None:
        self._tell = _log.info if is_chatty else _log.debug

    def started(self, run: Run) -> None:
        """Logs that a saga's start is durable."""
        self._tell("saga_started", **_named(run))

    def moved(self, run: Run, before: SagaStatus) -> None:
        """Logs that a saga has turned back, if it has; `before` is the status that it had."""
        status = run.state.status
        if status is not before and status not in SETTLED:
            self._tell("saga_turned", **_named(run), status=status.value, **_why(run.state.failure))

    def ended(self, run: Run, status: SagaStatus) -> None:
        """Logs that a saga has ended, or waits for a person."""
        if status is SagaStatus.NEEDS_ATTENTION:
            _tell_attention(run)
            return
        since, until = run.origin.started_at, run.settled_at
        seconds = {} if since is None or until is None else {"seconds": round(until - since, 3)}
        self._tell("saga_settled", **_named(run), status=status.value, **seconds, **_why(run.state.failure))


def _named(run: Run) -> dict[str, str]:
    key = {"start_key": run.origin.start_key} if run.origin.start_key else {}
    return {"saga_id": run.saga_id, "definition": run.state.definition, **key}


def _why(failure: Cause | None) -> dict[str, str]:
    if failure is None:
        return {}
    return {
        "failure_code": failure.code,
        "failure_step": failure.step,
        "failure_message": failure.message[:_SHOWN_CHARACTERS_MAX],
    }


def _tell_attention(run: Run) -> None:
    state = run.state
    failure, blocking = state.failure, state.blocked_by
    _log.warning(
        "saga_needs_attention",
        saga_id=run.saga_id,
        definition=state.definition,
        version=state.version,
        failure_code=failure.code if failure else "",
        failure_step=failure.step if failure else "",
        blocked_by=blocking.step if blocking else "",
        blocked_code=blocking.code if blocking else "",
        blocked_message=blocking.message if blocking else "",
        remaining=state.remaining,
    )
