"""Steps that run other sagas: a child is started, asked about and undone through this coordinator's own front.

A child's start key is the idempotency key of the action that runs the child. So there is one child, however often the action is
attempted and from whichever coordinator (P5, P9). A child that settles tells its parent at once. If that message is lost in a
crash, the parent finds out when it polls.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.runs import Run
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.lifecycle import Background, Service
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import Parent
from saga_coordinator.saga.machine.inputs import Asked, OutcomeReported, RecallAsked
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    NotPossibleNow,
    SagaError,
)
from saga_coordinator.saga.words.identity import PARENT_LABEL, OperationKind, idempotency_key
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)

DEPTH_MAX = 8
"""The most sagas above a child."""

_log = structlog.get_logger(__name__)


class Front(Protocol):
    """The requests that a coordinator takes from whoever starts sagas and looks after them."""

    async def start_saga(self, request: StartSaga) -> tuple[str, bool]:
        """Starts a saga, or returns the one that was started by the same request."""

    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """Asks a child to go back, or tells a parent of its child. Raises NotPossibleNow if the saga's state forbids it."""

    async def state_of(self, saga_id: str) -> SagaState:
        """The saga's state, from its log."""

    async def namespace_of(self, saga_id: str) -> Namespace:
        """The namespace that the saga is in."""

    async def id_of(self, namespace: Namespace, start_key: str) -> str | None:
        """The saga that was started with that key; None if there is none."""


class Children(Service):
    """Performs the operations of steps that run other sagas."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._messages = Background()

    def child_settled(self, run: Run) -> None:
        """Tells the parent of a saga, if it has one, that the saga has settled."""
        if run.state.parent is not None:
            self._messages.spawn("message to a parent", self._tell_parent(run))

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Gives up the messages that are under way. A parent that gets no message asks."""
        await self._messages.stop()

    async def invoke(self, call: Invoke, now: float) -> Outcome:
        """Starts the child, or asks it to go back. The outcome is PENDING until it has settled. `now` is the database's time."""
        try:
            if call.operation is OperationKind.ACTION:
                return await self._run(call, now)
            return await self._undo(call)
        except (NotFound, NotPossibleNow, InvalidRequest, AlreadyExists) as error:
            return Refused(Cause(_code_of(error), clip(str(error))))
        except SagaError as error:
            return Unknown(Cause("UNAVAILABLE", clip(str(error))))

    async def _run(self, call: Invoke, now: float) -> Outcome:
        if call.depth > DEPTH_MAX:
            message = f"sagas run sagas at most {DEPTH_MAX} deep"
            return Refused(Cause(CauseCode.LIMIT_EXCEEDED, message))
        namespace = await self._front.namespace_of(call.saga_id)
        saga_id, _ = await self._front.start_saga(_start(call, namespace, now))
        return _outcome_of_action(await self._front.state_of(saga_id))

    async def _undo(self, call: Invoke) -> Outcome:
        failure = call.failure
        what = f": {failure.code} {failure.message}" if failure else ""
        cause = Cause(CauseCode.PARENT_FAILED, clip(f"saga {call.saga_id} failed{what}"))
        namespace = await self._front.namespace_of(call.saga_id)
        saga_id = await self._front.id_of(namespace, _start_key(call))
        if saga_id is None:
            # A start that is still on its way somewhere must find this one, turned already, instead of beginning.
            saga_id, _ = await self._front.start_saga(_start(call, namespace, None, recalled_for=cause))
        await self._front.ask(saga_id, RecallAsked(cause))
        match (await self._front.state_of(saga_id)).status:
            case SagaStatus.COMPENSATED:
                return Succeeded()
            case _:
                return Pending()

    async def _tell_parent(self, run: Run) -> None:
        try:
            await self._report_to_parent(run)
        except SagaError as error:
            _log.info("parent_not_told", saga_id=run.saga_id, reason=f"it will ask: {error}")
        except Exception:  # noqa: BLE001 - such as a commit of the parent's that was refused: it will ask
            _log.exception("parent_not_told", saga_id=run.saga_id)

    async def _report_to_parent(self, run: Run) -> None:
        """Reports the end of a child to the step that runs it. Raises SagaError if that could not be done."""
        parent, state = run.state.parent, run.state
        if parent is None:
            return
        is_recalled = state.failure is not None and state.failure.code == CauseCode.PARENT_FAILED
        if is_recalled:
            if state.status is SagaStatus.COMPENSATED:
                undone = OutcomeReported(parent.step, OperationKind.COMPENSATION, Succeeded())
                await self._front.ask(parent.saga_id, undone)
            return
        outcome = _outcome_of_action(state)
        if not isinstance(outcome, Pending):
            done = OutcomeReported(parent.step, OperationKind.ACTION, outcome)
            await self._front.ask(parent.saga_id, done)


_CODES = {
    NotFound: "NOT_FOUND",
    NotPossibleNow: "FAILED_PRECONDITION",
    InvalidRequest: "INVALID_ARGUMENT",
    AlreadyExists: "ALREADY_EXISTS",
}


def _code_of(error: SagaError) -> str:
    return next(code for kind, code in _CODES.items() if isinstance(error, kind))


def _start_key(call: Invoke) -> str:
    return idempotency_key(call.saga_id, call.step, OperationKind.ACTION)


def _start(
    call: Invoke, namespace: Namespace, now: float | None, *, recalled_for: Cause | None = None
) -> StartSaga:
    """The start of the child, in its parent's namespace."""
    name, _, version = call.method.partition("@")
    is_limited = call.deadline_at is not None and now is not None
    return StartSaga(
        definition=name,
        version=int(version or 0),
        start_key=_start_key(call),
        input=None if recalled_for else call.input,
        labels={PARENT_LABEL: call.saga_id},
        deadline_seconds=max(0.001, (call.deadline_at or 0.0) - (now or 0.0)) if is_limited else None,
        headers=call.headers,
        parent=Parent(call.saga_id, call.step, call.depth),
        recalled_for=recalled_for,
        namespace=namespace,
    )


def _outcome_of_action(state: SagaState) -> Outcome:
    match state.status:
        case SagaStatus.COMPLETED:
            return Succeeded(state.output)
        case SagaStatus.COMPENSATED:
            return Refused(_cause_of_failing(state))
        case SagaStatus.ABANDONED:  # what remains of it stands, so its step cannot count as never done
            return Unknown(_cause_of_failing(state))
        case _:
            return Pending()


def _cause_of_failing(state: SagaState) -> Cause:
    why = f": {state.failure.code} {state.failure.message}" if state.failure else ""
    return Cause(CauseCode.CHILD_FAILED, clip(f"saga {state.saga_id} ended {state.status}{why}"))
