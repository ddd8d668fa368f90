"""What follows: `decide(definition, state, input, now, jitter) -> Decision`.

A decision holds the entries to append, the effects to perform once those are committed (P6), and the state they lead to. Each
(saga status, input) pair has one handler in `HANDLERS`; after it, `_proceed` does whatever the new state allows: start the
next actions, turn, undo, end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saga_coordinator.saga.definition import Definition, Step
from saga_coordinator.saga.entries import (
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    Entry,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaAdopted,
    SagaCompensated,
    SagaCompleted,
    SagaFailed,
    SagaParked,
    SagaStarted,
)
from saga_coordinator.saga.errors import ExpressionError
from saga_coordinator.saga.identity import OperationKind, idempotency_key
from saga_coordinator.saga.outcome import (
    Cause,
    CauseCode,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    clip,
)
from saga_coordinator.saga.state import (
    SETTLED,
    EffectKnown,
    SagaState,
    SagaStatus,
    StepState,
    StepStatus,
    apply,
    needs_compensation,
    remaining_effects,
)

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


# Inputs: what can happen to a saga.


@dataclass(frozen=True, slots=True)
class StartRequested:
    """Only this comes when there is no state yet. `deadline_seconds` is the starter's, if shorter than the definition's."""

    saga_id: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A call that this coordinator made has ended."""

    step: str
    operation: OperationKind
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutcomeReported:
    """A participant reported how an operation ended that it had accepted."""

    step: str
    operation: OperationKind
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Something of this saga is due at `now`; the state says what."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    reason: str
    requested_by: str = ""


@dataclass(frozen=True, slots=True)
class OwnershipGained:
    """This coordinator drives the saga from now on. `previous_owner` is set when its lease had ended before it let go."""

    previous_owner: str | None = None


Input = StartRequested | AttemptEnded | OutcomeReported | TimerFired | CancelAsked | OwnershipGained


# Effects: what has to be done once the entries are committed.


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a participant. `input` is rendered; the deadline of the call is `timeout_seconds` from when it is made."""

    saga_id: str
    step: str
    operation: OperationKind
    attempt: int
    idempotency_key: str
    participant: str
    method: str
    input: Any
    timeout_seconds: float
    failure: Cause | None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Come back with TimerFired at `due_at`; replaces the timer set before."""

    due_at: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more moves by itself."""

    status: SagaStatus


Effect = Invoke | SetTimer | Finish


@dataclass(frozen=True, slots=True)
class Decision:
    """`refusal` is the answer to an input that the state forbids; `is_applied` tells whether an input moved anything."""

    entries: tuple[Entry, ...]
    effects: tuple[Effect, ...]
    state: SagaState
    refusal: str | None = None
    is_applied: bool = True


def decide(
    definition: Definition,
    state: SagaState | None,
    happened: Input,
    now: float,
    jitter: float,
    *,
    may_call: bool = True,
) -> Decision:
    """What follows from `happened`.

    Args:
        definition: the version that the saga is pinned to.
        state: None for StartRequested, else the saga's.
        now: seconds since the epoch by the database's clock (P10).
        jitter: a uniform draw from [0, 1) for the delay of a retry.
        may_call: False where the coordinator cannot make calls now (it is full, or stopping): what happened is recorded, and
            whoever drives the saga next goes on from there.
    """
    if state is None:
        assert isinstance(happened, StartRequested), f"{happened} needs a state"
        turn = _start(definition, happened, now, jitter, may_call)
    else:
        turn = _Turn(definition, state, now, jitter, may_call)
        HANDLERS[state.status, type(happened)](turn, happened)
    _proceed(turn)
    return Decision(tuple(turn.entries), _effects(turn), turn.state, turn.refusal, turn.is_applied)


class _Turn:
    """One decision in the making: the state moves with each entry recorded."""

    __slots__ = (
        "definition",
        "entries",
        "invocations",
        "is_applied",
        "jitter",
        "may_call",
        "now",
        "refusal",
        "state",
    )

    def __init__(
        self, definition: Definition, state: SagaState, now: float, jitter: float, may_call: bool
    ) -> None:
        self.definition = definition
        self.state = state
        self.now = now
        self.jitter = jitter
        self.may_call = may_call
        self.entries: list[Entry] = []
        self.invocations: list[Invoke] = []
        self.refusal: str | None = None
        self.is_applied = True

    def record(self, entry: Entry) -> None:
        self.state = apply(self.state.saga_id, self.state, entry)
        self.entries.append(entry)

    def steps(self) -> Iterator[tuple[Step, StepState]]:
        for step in self.definition.steps:
            yield step, self.state.step(step.name)


def _start(
    definition: Definition, request: StartRequested, now: float, jitter: float, may_call: bool
) -> _Turn:
    limits = [
        seconds for seconds in (definition.deadline_seconds, request.deadline_seconds) if seconds is not None
    ]
    deadline_at = now + min(limits) if limits else None
    started = SagaStarted(definition.name, request.version, request.input, request.labels, deadline_at)
    turn = _Turn(definition, apply(request.saga_id, None, started), now, jitter, may_call)
    turn.entries.append(started)
    return turn


# Handlers: what one input means in one status, before `_proceed`.


def _on_attempt_ended(turn: _Turn, happened: AttemptEnded) -> None:
    step = turn.state.step(happened.step)
    if step.is_in_flight and (step.operation, step.attempt) == (happened.operation, happened.attempt):
        _settle(turn, happened.step, happened.operation, happened.attempt, happened.outcome)
    else:
        _record_late(turn, happened.step, happened.operation, happened.attempt, happened.outcome)


def _on_outcome_reported(turn: _Turn, happened: OutcomeReported) -> None:
    if not turn.definition.has_step(happened.step):
        turn.refusal = f"the saga has no step `{happened.step}`"
        return
    step = turn.state.step(happened.step)
    was_attempted = step.attempt > 0 and (happened.operation is _ACTION or step.operation is _COMPENSATION)
    if not was_attempted:
        turn.refusal = f"the {happened.operation} of step `{happened.step}` has not been attempted"
        return
    is_open = step.is_in_flight or step.status is StepStatus.WAITING
    is_between_attempts = step.retry_at is not None and not isinstance(happened.outcome, Unknown | Pending)
    if step.operation is happened.operation and (is_open or is_between_attempts):
        _settle(turn, happened.step, happened.operation, step.attempt, happened.outcome)
    else:
        _record_late(turn, happened.step, happened.operation, step.attempt, happened.outcome)


def _on_timer(turn: _Turn, happened: TimerFired) -> None:
    """Reports that did not come in time; whatever else is due, `_proceed` finds."""
    for step, state in turn.steps():
        if state.pending_until is not None and state.pending_until <= turn.now:
            message = f"no outcome was reported within {step.operation(state.operation).pending_timeout_seconds:g} s"
            cause = Cause(CauseCode.PENDING_TIMEOUT, message)
            _settle(turn, step.name, state.operation, state.attempt, Unknown(cause))


def _on_cancel(turn: _Turn, happened: CancelAsked) -> None:
    pivot = turn.definition.pivot
    if pivot is not None and _is_pivot_attempted(turn.definition, turn.state):
        turn.refusal = (
            f"the pivot `{pivot.name}` has been attempted: unless it is refused, this saga only goes forward"
        )
    else:
        cause = Cause(CauseCode.CANCELLED, clip(happened.reason), requested_by=clip(happened.requested_by))
        turn.record(SagaFailed(cause))


def _on_ownership(turn: _Turn, happened: OwnershipGained) -> None:
    """Attempts in flight at the previous owner are lost: unknown, and perhaps not over until their time is (P4)."""
    if happened.previous_owner is not None:
        turn.record(SagaAdopted(happened.previous_owner))
    for step, state in turn.steps():
        if not state.is_in_flight:
            continue
        cause = Cause(CauseCode.COORDINATOR_LOST, "the coordinator that made this attempt is gone")
        settles_at = turn.now + step.operation(state.operation).timeout_seconds
        if turn.state.status is SagaStatus.COMPENSATING and state.operation is _ACTION:
            turn.record(AttemptUnresolved(step.name, state.operation, state.attempt, cause, settles_at))
        else:
            turn.record(
                AttemptUnknown(step.name, state.operation, state.attempt, cause, 0.0, turn.now, settles_at)
            )
    _on_timer(turn, TimerFired())


def _on_nothing(turn: _Turn, happened: Input) -> None:
    """The saga is where this would take it, or nothing moves by itself any more."""
    turn.is_applied = False


def _refuse_cancel(turn: _Turn, happened: CancelAsked) -> None:
    turn.refusal = f"the saga is {turn.state.status}: there is nothing left to cancel"


def _record_late(turn: _Turn, step: str, operation: OperationKind, attempt: int, outcome: Outcome) -> None:
    """An outcome for something already decided: a repetition is answered, anything else is kept (P9)."""
    turn.is_applied = False
    match outcome:
        case Succeeded(output) if not _is_known(turn.state, step, operation, "SUCCEEDED"):
            turn.record(OutcomeLate(step, operation, attempt, "SUCCEEDED", output))
        case Refused(cause) if not _is_known(turn.state, step, operation, "REFUSED"):
            turn.record(OutcomeLate(step, operation, attempt, "REFUSED", cause=cause))
        case _:
            pass  # unknown and pending say nothing new


def _is_known(state: SagaState, step_name: str, operation: OperationKind, outcome: str) -> bool:
    step = state.step(step_name)
    if (step_name, operation, outcome) in state.late:
        return True
    if operation is _ACTION:
        return (outcome == "SUCCEEDED" and step.is_output_known) or (outcome == "REFUSED" and step.is_refused)
    return outcome == "SUCCEEDED" and step.status is StepStatus.COMPENSATED


def _settle(turn: _Turn, name: str, operation: OperationKind, attempt: int, outcome: Outcome) -> None:
    """Records what became of the attempt that is open."""
    state = turn.state.step(name)
    has_turned = turn.state.status is SagaStatus.COMPENSATING and operation is _ACTION
    match outcome:
        case Succeeded():
            turn.record(AttemptSucceeded(name, operation, attempt, outcome.output))
        case Refused():
            was_nothing = operation is _COMPENSATION and outcome.cause.code == "NOT_FOUND"
            if was_nothing and state.effect < EffectKnown.CERTAIN:
                turn.record(NothingToUndo(name, operation, attempt, outcome.cause))
            else:
                turn.record(AttemptRefused(name, operation, attempt, outcome.cause))
        case Pending() if has_turned:
            cause = Cause("PENDING", "accepted after the saga had turned; its outcome is not awaited")
            turn.record(AttemptUnresolved(name, operation, attempt, cause))
        case Pending():
            pending_until = turn.now + turn.definition.step(name).operation(operation).pending_timeout_seconds
            turn.record(AttemptPending(name, operation, attempt, pending_until))
        case Unknown():
            policy = turn.definition.step(name).operation(operation).retry
            failures = state.failures + 1
            if has_turned or failures >= policy.max_attempts:
                turn.record(AttemptUnresolved(name, operation, attempt, outcome.cause))
            else:
                delay = policy.backoff_seconds(failures, turn.jitter)
                turn.record(AttemptUnknown(name, operation, attempt, outcome.cause, delay, turn.now + delay))


_Handler = Callable[[_Turn, Any], None]

_MOVING: tuple[tuple[type[Input], _Handler], ...] = (
    (AttemptEnded, _on_attempt_ended),
    (OutcomeReported, _on_outcome_reported),
    (TimerFired, _on_timer),
    (OwnershipGained, _on_ownership),
)
_SETTLED: tuple[tuple[type[Input], _Handler], ...] = (
    (AttemptEnded, _on_attempt_ended),
    (OutcomeReported, _on_outcome_reported),
    (TimerFired, _on_nothing),
    (OwnershipGained, _on_nothing),
)
HANDLERS: Mapping[tuple[SagaStatus, type[Input]], _Handler] = {
    **{(SagaStatus.RUNNING, kind): handler for kind, handler in _MOVING},
    **{(SagaStatus.COMPENSATING, kind): handler for kind, handler in _MOVING},
    **{(status, kind): handler for status in SETTLED for kind, handler in _SETTLED},
    (SagaStatus.RUNNING, CancelAsked): _on_cancel,
    (SagaStatus.COMPENSATING, CancelAsked): _on_nothing,
    (SagaStatus.COMPLETED, CancelAsked): _refuse_cancel,
    (SagaStatus.COMPENSATED, CancelAsked): _on_nothing,
    (SagaStatus.NEEDS_ATTENTION, CancelAsked): _refuse_cancel,
    (SagaStatus.ABANDONED, CancelAsked): _refuse_cancel,
}
"""(saga status, input) -> handler. Complete but for StartRequested, which comes only when there is no saga yet."""


# What the state allows next.


def _proceed(turn: _Turn) -> None:
    if turn.state.status is SagaStatus.RUNNING:
        _go_forward(turn)
    if turn.state.status is SagaStatus.COMPENSATING:
        _go_back(turn)


def _go_forward(turn: _Turn) -> None:
    pivot = turn.definition.pivot
    pivot_state = turn.state.step(pivot.name) if pivot else None
    is_past_pivot = pivot_state is not None and pivot_state.status is StepStatus.SUCCEEDED
    for step, state in turn.steps():
        if state.status is StepStatus.FAILED:
            assert state.cause is not None
            cause = Cause(state.cause.code, state.cause.message, step.name)
            # With the pivot done or in doubt, undoing the steps before it could be as wrong as going on: a person decides.
            if is_past_pivot or (step.is_pivot and state.effect > EffectKnown.NONE):
                _park_when_idle(turn, cause)
            else:
                turn.record(SagaFailed(cause))
            return
    # From the pivot's first attempt on, only the pivot's own outcome decides whether the saga can still go back.
    if not _is_pivot_attempted(turn.definition, turn.state) and _is_overdue(turn):
        cause = Cause(CauseCode.DEADLINE, "the saga's deadline passed before it had completed")
        turn.record(SagaFailed(cause))
        return
    _start_actions(turn)
    if turn.state.status is SagaStatus.RUNNING and all(
        state.status is StepStatus.SUCCEEDED for _, state in turn.steps()
    ):
        turn.record(SagaCompleted())


def _is_pivot_attempted(definition: Definition, state: SagaState) -> bool:
    return definition.pivot is not None and state.step(definition.pivot.name).attempt > 0


def _is_overdue(turn: _Turn) -> bool:
    return turn.state.deadline_at is not None and turn.state.deadline_at <= turn.now


def _start_actions(turn: _Turn) -> None:
    if not turn.may_call:
        return
    for step, state in turn.steps():
        is_ready = state.status is StepStatus.PENDING and all(
            turn.state.step(other).status is StepStatus.SUCCEEDED for other in step.after
        )
        if (is_ready or _is_retry_due(turn, state)) and not _attempt(turn, step, _ACTION):
            _go_forward(turn)
            return


def _go_back(turn: _Turn) -> None:
    for step, state in turn.steps() if turn.may_call else ():
        if _is_retry_due(turn, state) or (
            _may_be_undone(turn, step, state) and not _is_unsettled(turn, state)
        ):
            _attempt(turn, step, _COMPENSATION)
    if any(_is_moving(turn, step, state) for step, state in turn.steps()):
        return
    if remaining := remaining_effects(turn.definition, turn.state):
        turn.record(SagaParked(_cause_of_parking(turn, remaining), remaining))
    else:
        turn.record(SagaCompensated())


def _is_moving(turn: _Turn, step: Step, state: StepState) -> bool:
    """Whether something of the step is still to come by itself."""
    is_open = state.is_in_flight or state.retry_at is not None or state.status is StepStatus.WAITING
    return is_open or _may_be_undone(turn, step, state)


def _may_be_undone(turn: _Turn, step: Step, state: StepState) -> bool:
    """Whether the step's compensation is wanted and every step that depends on this one is done with (P3, P4)."""
    if state.is_in_flight or state.operation is not _ACTION or not needs_compensation(step, state):
        return False
    dependents = turn.definition.dependents[step.name]
    return all(
        not other_state.is_in_flight and not needs_compensation(other, other_state)
        for other, other_state in turn.steps()
        if other.name in dependents
    )


def _is_unsettled(turn: _Turn, state: StepState) -> bool:
    return state.settles_at is not None and state.settles_at > turn.now


def _is_retry_due(turn: _Turn, state: StepState) -> bool:
    return state.retry_at is not None and state.retry_at <= turn.now


def _cause_of_parking(turn: _Turn, remaining: tuple[str, ...]) -> Cause:
    for name in remaining:
        state = turn.state.step(name)
        if state.operation is _COMPENSATION and state.cause is not None:
            return Cause(state.cause.code, f"the compensation did not succeed: {state.cause.message}", name)
    message = "the saga failed after a step that cannot be undone"
    return Cause(CauseCode.IRREVERSIBLE, message, remaining[0])


def _park_when_idle(turn: _Turn, cause: Cause) -> None:
    """Parks once nothing is in flight any more; until then nothing new starts."""
    if not any(state.is_in_flight for _, state in turn.steps()):
        turn.record(SagaParked(cause, remaining_effects(turn.definition, turn.state)))


def _attempt(turn: _Turn, step: Step, kind: OperationKind) -> bool:
    """Records the intent to call and prepares the call; False when its input cannot be computed."""
    state = turn.state.step(step.name)
    attempt = state.attempt + 1 if state.operation is kind else 1
    operation = step.operation(kind)
    try:
        rendered = _render(turn, step, state, kind)
    except ExpressionError as error:
        cause = Cause(CauseCode.INPUT_INVALID, clip(str(error)))
        turn.record(InputInvalid(step.name, kind, attempt, cause))
        return False
    turn.record(AttemptStarted(step.name, kind, attempt))
    turn.invocations.append(
        Invoke(
            saga_id=turn.state.saga_id,
            step=step.name,
            operation=kind,
            attempt=attempt,
            idempotency_key=idempotency_key(turn.state.saga_id, step.name, kind),
            participant=operation.participant,
            method=operation.method,
            input=rendered,
            timeout_seconds=operation.timeout_seconds,
            failure=turn.state.failure if kind is _COMPENSATION else None,
        )
    )
    return True


def _render(turn: _Turn, step: Step, state: StepState, kind: OperationKind) -> Any:
    template = step.operation(kind).input
    if template is None:
        return turn.state.input if kind is _ACTION else state.output
    saga = turn.state
    scope: dict[str, Any] = {
        "input": saga.input,
        "steps": {name: {"output": other.output} for name, other in saga.steps.items()},
        "saga": {"id": saga.saga_id, "labels": saga.labels},
    }
    if kind is _COMPENSATION:
        failure = saga.failure
        scope["output"] = state.output
        scope["failure"] = failure and {
            "code": failure.code,
            "message": failure.message,
            "step": failure.step,
        }
    return template.render(scope)


def _effects(turn: _Turn) -> tuple[Effect, ...]:
    if turn.state.status in SETTLED:
        return (Finish(turn.state.status),)
    due_at = next_due(turn.definition, turn.state, turn.now)
    return tuple(turn.invocations) if due_at is None else (*turn.invocations, SetTimer(due_at))


def next_due(definition: Definition, state: SagaState, now: float) -> float | None:
    """When something of the saga is due after `now` without anything else happening; None when nothing is.

    What was due earlier and has not been done by a decision at `now` is held back by something else, whose end brings the
    next decision.
    """
    due = [
        instant
        for step in state.steps.values()
        for instant in (step.retry_at, step.pending_until, step.settles_at)
        if instant is not None
    ]
    if (
        state.deadline_at is not None
        and state.status is SagaStatus.RUNNING
        and not _is_pivot_attempted(definition, state)
    ):
        due.append(state.deadline_at)
    return min((instant for instant in due if instant > now), default=None)
