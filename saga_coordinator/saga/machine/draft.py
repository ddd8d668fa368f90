"""A draft of a decision: it records entries, asks for effects, and begins and ends attempts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saga_coordinator.saga.definition.model import Definition, Operation
from saga_coordinator.saga.expressions.reference import Metered
from saga_coordinator.saga.machine.agenda import Agenda
from saga_coordinator.saga.machine.answers import APPLIED, Answer, HeartbeatTaken
from saga_coordinator.saga.machine.effects import Invoke, LookForEvent, LookForRoom
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    Entry,
    InputInvalid,
    NothingToUndo,
    SagaFailed,
    SagaRecalled,
    StepFailed,
    is_about_step,
)
from saga_coordinator.saga.machine.place import Node, Place, node_of, remaining_effects, scope
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import OPERATION_ALLOWED
from saga_coordinator.saga.machine.undoing import Undoing
from saga_coordinator.saga.words.errors import ExpressionError, Refusal
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.meter import ENTRY, Meter, TooMuchHere
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
    reclassified,
)
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.saga.words.size import Measure, TooFar, TooLarge

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_POLL_SECONDS_MAX = 3600.0
_POLLS_DOUBLED_MAX = 30
_POLLS_STEADY = 9
"""The number of polls that follow each other at the status method's interval. Later polls become rarer, because each poll is an
entry.
"""
_RETURN_SECONDS_MAX = 300.0
_RETURNS_DOUBLED_MAX = 30
"""The longest pause, in seconds, before a task that workers gave back is handed out again, and how often the pause doubles at
most. The pauses grow, because each round is two entries.
"""
_HEARTBEAT_MARGIN = 0.5
_HEARTBEAT_SHARE = 1 / 16
"""A recorded heartbeat counts for the timeout and a while longer: the margin is a share of the timeout, the other share is of
the time for which the attempt has been pending, and the longer of the two times is added. A further heartbeat is recorded only
when the recorded one counts for less than one timeout from now on. So a long attempt writes few heartbeat entries.
"""


_TURNS = (SagaFailed, SagaRecalled)
_WORK_PER_VALUE_MEASURED = 5
_VALUES_MEASURED_HERE_MAX = 10_000
"""The most items and fields that one decision measures on the event loop: about five milliseconds. It is a limit of its own,
because measuring comes before its cost is known.
"""
_WORK_PER_STEP_TURNED = 10
_WORK_PER_STEP_LISTED = 400


class Draft:
    """A decision that is being written. Each recorded entry changes the state at once, and the next step of the decision builds
    on it.
    """

    __slots__ = (
        "_agenda",
        "_measure",
        "answer",
        "definition",
        "entries",
        "invocations",
        "is_cut",
        "jitter",
        "lookups",
        "may_call",
        "meter",
        "now",
        "room_found_for",
        "rooms",
        "state",
    )

    def __init__(
        self,
        definition: Definition,
        state: SagaState,
        now: float,
        jitter: float,
        *,
        may_call: bool,
        here_max: int | None = None,
    ) -> None:
        self.definition = definition
        self.state = state
        self.now = now
        self.jitter = jitter
        self.may_call = may_call
        self.meter = Meter(here_max)
        self.is_cut = False
        """Tells whether there is more work than this decision may do."""
        self._agenda = _taken(definition, state)
        self._measure = Measure(definition.limits.payload_bytes)
        self._measure.walk_max = None if here_max is None else _VALUES_MEASURED_HERE_MAX
        self.entries: list[Entry] = []
        self.invocations: list[Invoke] = []
        self.lookups: list[LookForEvent] = []
        self.rooms: dict[str, LookForRoom] = {}
        self.room_found_for: str | None = None
        """The key of the instance whose held attempt may be made now."""
        self.answer: Answer = APPLIED

    def refuse(self, reason: Reason, message: str) -> None:
        """Answers that the saga's state forbids what was asked."""
        self.answer = Refusal(reason, message)

    def record(self, entry: Entry) -> None:
        """Adds an entry and applies it to the state. Raises TooMuchHere."""
        before = self.state
        if type(entry) in _TURNS:
            self.meter.charge_aside(len(before.steps) * _WORK_PER_STEP_TURNED)
        self.meter.charge(ENTRY)
        self.state = apply(before.saga_id, before, entry)
        self.entries.append(entry)
        if self.room_found_for is not None and not self.state.step(self.room_found_for).is_held:
            self.room_found_for = None
        if self._agenda is not None:
            if self.state.status is not before.status:
                self._agenda = None
            elif is_about_step(entry):
                self._agenda.follow(self.state, entry.step, before.step(entry.step))

    @property
    def agenda(self) -> Agenda:
        """The agenda of the present state. Raises TooMuchHere."""
        if self._agenda is None:
            self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
            self._agenda = Agenda(self.definition, self.state)
        return self._agenda

    def leave_agenda(self) -> None:
        """Leaves the agenda with the state, for the decision that goes on from there."""
        if self._agenda is not None:
            self.state.memo[:] = [self._agenda]

    def may_do_more(self) -> bool:
        """Tells whether this decision may do more work. If not, the decision ends here."""
        self.is_cut = self.is_cut or self.meter.is_spent
        return not self.is_cut

    def undoing(self) -> Undoing:
        """The way back of a parked saga. Raises TooMuchHere."""
        self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
        return Undoing(self.definition, self.state)

    def remaining_effects(self) -> tuple[str, ...]:
        """Keys of the instances whose effect stands or may stand. Raises TooMuchHere."""
        self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
        return remaining_effects(self.definition, self.state)

    def scope(self, place: Place) -> dict[str, Any]:
        """The variables that an expression at that place can refer to now."""
        return Metered(scope(self.definition, self.state, place), self.meter)

    def computed(self, payload: Any, what: str) -> Any:
        """Returns the value of an expression or a template unchanged, if it is no larger than a payload may be. `what` names
        the value in the error.

        Raises:
            ExpressionError: it is larger.
        """
        walked = self._measure.walked
        try:
            self._measure.check(payload)
        except TooLarge as error:
            raise ExpressionError(f"{what} {error}") from None
        except TooFar:
            raise TooMuchHere from None
        self.meter.charge((self._measure.walked - walked) * _WORK_PER_VALUE_MEASURED)
        return payload

    def attempt(self, node: Node, kind: OperationKind) -> None:
        """Records the intent to call and prepares the call, or records that the input cannot be computed."""
        key, step = node.key, node.step
        state = self.state.step(key)
        number = state.attempts(kind) + 1
        try:
            call = self._call(node, kind, number)
        except ExpressionError as error:
            cause = Cause(CauseCode.INPUT_INVALID, clip(str(error)))
            self.record(InputInvalid(key, kind, number, cause))
            return
        deadline_at = None
        if kind is _ACTION and step.deadline_seconds is not None and state.deadline_at is None:
            deadline_at = self.now + step.deadline_seconds
        self.record(AttemptStarted(key, kind, number, deadline_at))
        self.invocations.append(call)

    def look_for_room(self, key: str, due_at: float) -> None:
        """Asks to look, from `due_at` on, for room for the held attempt of that instance."""
        kind = self.state.step(key).operation
        operation = node_of(self.definition, self.state, key).step.operation(kind)
        self.rooms[key] = LookForRoom(
            self.state.saga_id, key, kind, operation.participant, operation.method, due_at
        )

    def poll(self, node: Node) -> None:
        """Asks about a pending operation again, and records when to ask the next time."""
        state = self.state.step(node.key)
        operation = node.step.operation(state.operation)
        try:
            call = self._question(node, operation, state)
        except ExpressionError:  # it could be computed once; the outcome will be reported, or not
            poll_at = None
        else:
            poll_at = self._next_poll(operation, state.polls + 1)
            self.invocations.append(call)
        self.record(
            AttemptPending(
                node.key,
                state.operation,
                state.attempt,
                state.pending_until,
                poll_at,
                state.heartbeat_until,
            )
        )

    def _question(self, node: Node, operation: Operation, state: StepState) -> Invoke:
        call = replace(self._call(node, state.operation, state.attempt), is_poll=True)
        if (status := operation.status) is None:
            return call
        if status.input is None:
            return replace(call, method=status.method)
        variables = self._variables(node, state.operation)
        question = self.computed(status.input.render(variables), "the input")
        return replace(call, method=status.method, input=question)

    def _next_poll(self, operation: Operation, polls: int) -> float | None:
        if operation.poll_seconds is None:
            return None
        if operation.status is not None:
            polls = max(0, polls - _POLLS_STEADY)
        pause = operation.poll_seconds * 2.0 ** min(polls, _POLLS_DOUBLED_MAX)
        return self.now + min(pause, max(_POLL_SECONDS_MAX, operation.poll_seconds))

    def heartbeat(self, key: str, details: str) -> None:
        """Takes a heartbeat about the pending operation of that instance. Records it only if the last recorded heartbeat is
        about to run out.
        """
        state = self.state.step(key)
        timeout = self.definition.step(key).operation(state.operation).heartbeat_seconds
        if timeout is None:
            return
        if state.is_in_flight:  # it was faster than the answer PENDING, from which the time is counted anyway
            self.answer = HeartbeatTaken(timeout, 0.0)
            return
        until = state.heartbeat_until or self.now
        if until < self.now + timeout:
            pending_seconds = self.now + timeout - (state.heartbeat_from or until)
            until = self.now + timeout + max(_HEARTBEAT_MARGIN * timeout, _HEARTBEAT_SHARE * pending_seconds)
            self.record(
                AttemptPending(
                    key,
                    state.operation,
                    state.attempt,
                    state.pending_until,
                    state.poll_at,
                    until,
                    details or None,
                )
            )
        self.answer = HeartbeatTaken(timeout, until - timeout - self.now)

    def _call(self, node: Node, kind: OperationKind, number: int) -> Invoke:
        operation = node.step.operation(kind)
        saga = self.state
        return Invoke(
            saga_id=saga.saga_id,
            step=node.key,
            operation=kind,
            attempt=number,
            idempotency_key=idempotency_key(saga.saga_id, node.key, kind),
            participant=operation.participant,
            method=operation.method,
            input=self._render(node, kind),
            # The timeout is never cut to a near deadline: an attempt in flight is awaited, not cut off.
            timeout_seconds=operation.timeout_seconds,
            failure=saga.failure if kind is _COMPENSATION else None,
            headers=saga.headers,
            deadline_at=saga.deadline_at,
            depth=saga.parent.depth + 1 if saga.parent else 1,
        )

    def _render(self, node: Node, kind: OperationKind) -> Any:
        template = node.step.operation(kind).input
        saga, state = self.state, self.state.step(node.key)
        if template is None:
            return saga.input if kind is _ACTION else state.output
        return self.computed(template.render(self._variables(node, kind)), "the input")

    def _variables(self, node: Node, kind: OperationKind) -> dict[str, Any]:
        """The variables that the input of that operation can refer to."""
        variables = self.scope(node.place)
        if kind is _COMPENSATION:
            failure = self.state.failure
            variables["output"] = self.state.step(node.key).output
            variables["failure"] = failure and {
                "code": failure.code,
                "message": failure.message,
                "step": failure.step,
            }
        return variables

    def settle(
        self,
        name: str,
        outcome: Outcome,
        *,
        is_call_over: bool = True,
        settles_doubt: bool | None = None,
    ) -> None:
        """Records the outcome of the present operation of the instance `name`. The operation must be open.

        `is_call_over` is false when a report arrived before the call returned: the call may be in flight until its timeout
        (P4). `settles_doubt` has the meaning that it has in `AttemptRefused`.
        """
        state = self.state.step(name)
        kind, number = state.operation, state.attempt
        operation = self.definition.step(name).operation(kind)
        outcome = reclassified(outcome, operation.outcomes)
        settles_at = None if is_call_over else self.now + operation.timeout_seconds
        may_go_on = kind in OPERATION_ALLOWED.get(self.state.status, ())
        match outcome:
            case Succeeded(output):
                self.record(AttemptSucceeded(name, kind, number, output, settles_at))
            case Refused(cause) if kind is _COMPENSATION and is_undone(state, outcome):
                self.record(NothingToUndo(name, kind, number, cause))
            case Refused(cause):
                self.record(AttemptRefused(name, kind, number, cause, settles_at, settles_doubt))
            case Pending() if may_go_on:
                # The step's deadline bounds its action only. The compensation may be accepted after it.
                deadline_at = state.deadline_at if kind is _ACTION else None
                pending_until = _earliest(_after(self.now, operation.pending_timeout_seconds), deadline_at)
                poll_at = self._next_poll(operation, 0)
                heartbeat_until = _after(self.now, operation.heartbeat_seconds)
                self.record(AttemptPending(name, kind, number, pending_until, poll_at, heartbeat_until))
            case Pending():
                cause = Cause(
                    CauseCode.PENDING,
                    "the participant accepted it after the saga had turned, so nobody waits for its outcome",
                )
                self.record(AttemptUnresolved(name, kind, number, cause))
            case Unknown(cause, retry_after_seconds):
                was_sent = None if outcome.was_sent else False
                failures = state.failures + 1
                backoff = operation.retry.backoff_seconds(failures, self.jitter)
                delay = max(backoff, retry_after_seconds)
                is_in_time = kind is _COMPENSATION or _is_before(self.now + delay, state.deadline_at)
                if may_go_on and is_in_time and failures < operation.retry.max_attempts:
                    self.record(
                        AttemptUnknown(name, kind, number, cause, delay, self.now + delay, None, was_sent)
                    )
                else:
                    self.record(AttemptUnresolved(name, kind, number, cause, None, was_sent))
            case Held(cause, delay, was_given):
                is_given_back = None if was_given else True
                if was_given:
                    delay = _pause_after_return(delay, state.returns)
                self.record(AttemptHeld(name, kind, number, cause, delay, self.now + delay, is_given_back))
                if may_go_on:
                    self.look_for_room(name, self.now + delay)
                else:
                    self.record(StepFailed(name, cause))


def _taken(definition: Definition, state: SagaState) -> Agenda | None:
    """The agenda that was left with the state, if it is of the same definition."""
    try:
        agenda: Agenda = state.memo.pop()
    except IndexError:
        return None
    return agenda if agenda.definition is definition else None


def _pause_after_return(seconds: float, returns: int) -> float:
    """The seconds that a task waits after a worker gave it back: `seconds` at first, and twice as long each further time in a
    row.
    """
    return min(seconds * 2.0 ** min(returns, _RETURNS_DOUBLED_MAX), max(_RETURN_SECONDS_MAX, seconds))


def _after(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now + seconds


def _earliest(*instants: float | None) -> float | None:
    return min((instant for instant in instants if instant is not None), default=None)


def _is_before(instant: float, deadline_at: float | None) -> bool:
    return deadline_at is None or instant < deadline_at


def is_past_return(definition: Definition, state: SagaState) -> bool:
    """Tells whether the pivot was attempted, so that there may be no way back."""
    pivot = definition.pivot
    return pivot is not None and state.step(pivot.name).attempts(_ACTION) > 0


def is_undone(step: StepState, outcome: Outcome) -> bool:
    """Tells whether a compensation with this outcome leaves no effect: it succeeded, or the participant found nothing to undo
    and no effect was certain.
    """
    match outcome:
        case Succeeded():
            return True
        case Refused(cause):
            return cause.code == "NOT_FOUND" and step.effect < EffectKnown.CERTAIN
        case _:
            return False
