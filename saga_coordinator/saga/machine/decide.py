"""The decision on one input: `decide(definition, state, given, now, jitter) -> Decision`.

A decision holds the entries to append, the effects to perform once those are committed (P6), and the state they lead to. Each
(saga status, input) pair has one handler in `HANDLERS`; after it, `proceed` does whatever the new state allows: start the next
actions, turn, undo, end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any

from saga_coordinator.saga.definition.model import Approval, Definition
from saga_coordinator.saga.machine.acts import (
    on_abandon,
    on_cancel_parked,
    on_pause,
    on_resolve,
    on_resume,
    on_retry,
    on_skip,
    refuse_ended,
)
from saga_coordinator.saga.machine.answers import Answer, NotApplied
from saga_coordinator.saga.machine.draft import Draft, is_past_return
from saga_coordinator.saga.machine.effects import (
    Decision,
    Effect,
    Finish,
    GoOn,
    SetTimer,
)
from saga_coordinator.saga.machine.entries import (
    AttemptRefused,
    AttemptSucceeded,
    EventReceived,
    SagaAdopted,
    SagaFailed,
    SagaRecalled,
    SagaStarted,
)
from saga_coordinator.saga.machine.forward import end_wait, event_to_look_for
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    ApprovalDecided,
    Asked,
    AttemptEnded,
    CancelAsked,
    EventArrived,
    HeartbeatReceived,
    Input,
    OutcomeReported,
    OwnershipGained,
    PauseAsked,
    RecallAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    RoomFound,
    SkipAsked,
    StartRequested,
    TimerFired,
    canonical_input,
)
from saga_coordinator.saga.machine.proceed import (
    keys_in_flight,
    look_for_room,
    next_due,
    proceed,
    record_lost,
)
from saga_coordinator.saga.machine.reports import on_attempt_ended, on_heartbeat, on_outcome_reported
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.transitions import ENDS, SETTLED, SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, clip
from saga_coordinator.saga.words.reasons import Reason

EVENTS_MAX = 1000
"""The most events that one saga keeps for steps that do not wait yet."""
_LOOK_AGAIN_SECONDS = 1.0
"""Seconds until the shell looks for room again, when a decision could not use the room that was found."""


def decide(
    definition: Definition,
    state: SagaState | None,
    given: Input,
    now: float,
    jitter: float,
    *,
    may_call: bool = True,
    here_max: int | None = None,
) -> Decision:
    """Decides what `given` leads to.

    Args:
        definition: the version that the saga is pinned to.
        state: None for StartRequested, else the saga's.
        now: seconds since the epoch by the database's clock (P10).
        jitter: a uniform draw from [0, 1) for the delay of a retry.
        may_call: False if the coordinator cannot make calls now, because it is full or stopping. The input is recorded, and
            whoever drives the saga next goes on from there.
        here_max: the most work that may be done in this thread, in the units of `work`; None sets no limit.

    Raises:
        TooMuchHere: it would be more work than that. The arguments are unchanged, so another thread can decide.
    """
    given = canonical_input(given)
    if state is None:
        assert isinstance(given, StartRequested), f"{given} needs a state"
        draft = _start(definition, given, now, jitter, may_call=may_call, here_max=here_max)
    else:
        draft = Draft(definition, state, now, jitter, may_call=may_call, here_max=here_max)
        HANDLERS[state.status, type(given)](draft, given)
    proceed(draft)
    if isinstance(given, EventArrived):
        _look_on(draft, given)
    effects = _effects(draft)
    draft.leave_agenda()
    return Decision(
        tuple(draft.entries),
        effects,
        draft.state,
        draft.answer,
        draft.meter.spent,
    )


def _start(
    definition: Definition,
    request: StartRequested,
    now: float,
    jitter: float,
    *,
    may_call: bool,
    here_max: int | None,
) -> Draft:
    limits = [
        seconds for seconds in (definition.deadline_seconds, request.deadline_seconds) if seconds is not None
    ]
    deadline_at = now + min(limits) if limits else None
    started = SagaStarted(
        definition.name,
        request.version,
        request.input,
        request.labels,
        deadline_at,
        request.headers,
        request.parent,
    )
    state = apply(request.saga_id, None, started)
    draft = Draft(definition, state, now, jitter, may_call=may_call, here_max=here_max)
    draft.entries.append(started)
    if request.recalled_for is not None:
        draft.record(SagaFailed(request.recalled_for))
    return draft


def _effects(draft: Draft) -> tuple[Effect, ...]:
    if draft.state.status in SETTLED:
        return (Finish(draft.state.status),)
    if draft.state.hold is not None:
        draft.rooms.clear()
    elif draft.room_found_for is not None:  # nobody may call here now, or others take the saga's places
        draft.look_for_room(draft.room_found_for, draft.now + _LOOK_AGAIN_SECONDS)
    rooms = (room for key, room in draft.rooms.items() if draft.state.step(key).is_held)
    effects: tuple[Effect, ...] = (*draft.invocations, *draft.lookups, *rooms)
    if draft.is_cut:
        return (*effects, GoOn())
    due_at = next_due(draft)
    return effects if due_at is None else (*effects, SetTimer(due_at))


# The handlers. Each decides what an input means in a status, before `proceed`. docs/state_machine.md shows their first
# sentences.

_Handler = Callable[[Draft, Any], None]


class _ByStatus:
    """A handler whose answer depends on nothing but the saga's status."""

    def __init__(self, answer: Callable[[SagaStatus], Answer]) -> None:
        update_wrapper(self, answer)
        self.answer = answer

    def __call__(self, draft: Draft, given: Any) -> None:
        draft.answer = self.answer(draft.state.status)


def answer_now(definition: Definition, state: SagaState, asked: Asked, now: float) -> Answer:
    """The answer that the saga would give now. Nothing is decided. Raises what the handler raises."""
    draft = Draft(definition, state, now, 0.0, may_call=False)
    HANDLERS[state.status, type(asked)](draft, asked)
    return draft.answer


def answer_by_status(status: SagaStatus, asked: Asked) -> Answer | None:
    """The answer of a settled saga, where its status alone decides it; None where the saga's log has to be read."""
    handler = HANDLERS[status, type(asked)]
    return handler.answer(status) if isinstance(handler, _ByStatus) and status in SETTLED else None


def _on_timer(draft: Draft, given: TimerFired) -> None:
    """Whatever is due is done: a retry is made, a compensation that was held back starts, an overdue report is given up, or the
    deadline turns the saga.
    """


def _on_room_found(draft: Draft, given: RoomFound) -> None:
    """The held attempt is made, unless it is not held any more."""
    step = draft.state.step(given.step)
    if step.is_held and step.operation is given.operation:
        draft.room_found_for = given.step
    else:
        draft.answer = NotApplied()


def _on_event(draft: Draft, given: EventArrived) -> None:
    """The event is kept until a step waits for it; an event that came before is not kept again."""
    if given.event_id in draft.state.event_ids:
        draft.answer = NotApplied()
    elif len(draft.state.events) >= EVENTS_MAX:
        draft.refuse(
            Reason.TOO_MANY_EVENTS,
            f"the saga keeps {EVENTS_MAX} events that no step has taken, which is the limit",
        )
    else:
        draft.record(EventReceived(given.event_id, given.name, given.correlation, given.payload))
        if (key := draft.agenda.waiting_for(given.name, given.correlation)) is not None:
            end_wait(draft, key)


def _look_on(draft: Draft, given: EventArrived) -> None:
    """Looks up the next event if several steps wait for events of that name and looked up the same event.

    It looks up one event at a time: a found event belongs to this saga, so an event that no step takes would be lost to every
    other saga.
    """
    if draft.state.status in SETTLED:
        return
    keys = draft.agenda.each_waiting_for(given.name, given.correlation)
    wanted = [each for each in (event_to_look_for(draft, key) for key in keys) if each is not None]
    if wanted and not any(each in draft.lookups for each in wanted):
        draft.lookups.append(max(wanted, key=lambda each: each.look_back_seconds))


def _refuse_event(draft: Draft, given: EventArrived) -> None:
    """The event is refused, because no step waits any more, unless it had come before."""
    if given.event_id in draft.state.event_ids:
        draft.answer = NotApplied()
    else:
        draft.refuse(
            Reason.SAGA_ENDED, f"the saga is {draft.state.status}: no step waits for events any more"
        )


def _on_approval(draft: Draft, given: ApprovalDecided) -> None:
    """The waiting step succeeds or is refused; a step that was decided already stays as it is."""
    if not draft.definition.has_step(given.step):
        draft.refuse(Reason.NO_SUCH_STEP, f"the saga has no step `{given.step}`")
        return
    action = draft.definition.step(given.step).action
    state = draft.state.step(given.step)
    decided_by, comment = clip(given.decided_by), clip(given.comment)
    answer = {"approved": given.is_approved, "comment": comment, "decided_by": decided_by}
    if not isinstance(action, Approval):
        draft.refuse(Reason.NO_WAIT, f"step `{given.step}` does not wait for an approval")
    elif action.approvers and given.decided_by not in action.approvers:
        draft.refuse(
            Reason.NOT_AN_APPROVER,
            f"`{decided_by}` may not decide on `{given.step}`; who may: {', '.join(action.approvers)}",
        )
    elif state.status is not StepStatus.WAITING:
        is_same = state.output == answer if given.is_approved else _is_rejection(state.cause, decided_by)
        draft.answer = NotApplied()
        if not is_same:
            draft.refuse(
                Reason.NO_WAIT, f"step `{given.step}` is {state.status} and does not wait for a decision"
            )
    elif given.is_approved:
        draft.record(AttemptSucceeded(given.step, OperationKind.ACTION, state.attempt, answer))
    else:
        message = comment or f"rejected by {decided_by}"
        cause = Cause(CauseCode.REJECTED, message, requested_by=decided_by)
        draft.record(AttemptRefused(given.step, OperationKind.ACTION, state.attempt, cause))


def _is_rejection(cause: Cause | None, decided_by: str) -> bool:
    return cause is not None and (cause.code, cause.requested_by) == (CauseCode.REJECTED, decided_by)


def _on_cancel(draft: Draft, given: CancelAsked) -> None:
    """The saga turns, with cause CANCELLED; this is refused once the pivot has been attempted."""
    _turn(draft, Cause(CauseCode.CANCELLED, clip(given.reason), requested_by=clip(given.requested_by)))


def _on_recall(draft: Draft, given: RecallAsked) -> None:
    """The saga turns, because its parent saga failed; this is refused once the pivot has been attempted."""
    _turn(draft, given.cause)


def _turn(draft: Draft, cause: Cause) -> None:
    if is_past_return(draft.definition, draft.state):
        pivot = draft.definition.pivot
        assert pivot is not None
        draft.refuse(
            Reason.PIVOT_ATTEMPTED,
            f"the pivot `{pivot.name}` has been attempted: unless it is refused, this saga only goes forward",
        )
    else:
        draft.record(SagaFailed(cause))


def _recall_completed(draft: Draft, given: RecallAsked) -> None:
    """The saga goes back and undoes what it did; this is refused if the definition has a pivot."""
    if (pivot := draft.definition.pivot) is not None:
        draft.refuse(
            Reason.PIVOT_ATTEMPTED,
            f"the saga has completed, and there is no way back after its pivot `{pivot.name}`",
        )
    else:
        draft.record(SagaRecalled(given.cause))


@_ByStatus
def _refuse_recall(status: SagaStatus) -> Answer:
    """Refused: a person abandoned the saga, and deals with the effects that remain."""
    return Refusal(Reason.SAGA_ENDED, f"the saga is {status}: it lists the effects that remain")


def _on_ownership(draft: Draft, given: OwnershipGained) -> None:
    """Attempts in flight at the previous owner are unknown, and may go on until their timeout (P4).

    They are made again at once, except tasks: a worker may be working at a task until then (P8). Events that steps wait for are
    looked up again.
    """
    workers = tuple(sorted(given.workers & draft.definition.participants))
    if given.previous_owner is not None:
        draft.record(
            SagaAdopted(given.previous_owner, workers if workers and draft.state.in_flight else None)
        )
    for key in draft.agenda.each_waiting():
        # The previous owner may have been lost before it looked whether the event had come already.
        if (wanted := event_to_look_for(draft, key)) is not None:
            draft.lookups.append(wanted)
    look_for_room(draft)
    if draft.state.adoption is None:  # with nobody to adopt it from, hardly anything is in flight
        for key in keys_in_flight(draft.state):
            record_lost(draft, key, workers)


@_ByStatus
def _on_nothing(status: SagaStatus) -> Answer:
    """Nothing happens: the saga is already where the input would take it, or no longer moves by itself."""
    return NotApplied()


@_ByStatus
def _refuse_cancel(status: SagaStatus) -> Answer:
    """Refused: there is nothing left to cancel."""
    return Refusal(Reason.SAGA_ENDED, f"the saga is {status}: there is nothing left to cancel")


_WHILE_MOVING: tuple[tuple[type[Input], _Handler], ...] = (
    (AttemptEnded, on_attempt_ended),
    (OutcomeReported, on_outcome_reported),
    (HeartbeatReceived, on_heartbeat),
    (EventArrived, _on_event),
    (ApprovalDecided, _on_approval),
    (TimerFired, _on_timer),
    (RoomFound, _on_room_found),
    (OwnershipGained, _on_ownership),
)
_WHEN_SETTLED: tuple[tuple[type[Input], _Handler], ...] = (
    (AttemptEnded, on_attempt_ended),
    (OutcomeReported, on_outcome_reported),
    (HeartbeatReceived, on_heartbeat),
    (EventArrived, _refuse_event),
    (ApprovalDecided, _on_approval),
    (TimerFired, _on_nothing),
    (RoomFound, _on_nothing),
    (OwnershipGained, _on_nothing),
)
_BY_PEOPLE: tuple[tuple[type[Input], _Handler], ...] = (
    (PauseAsked, on_pause),
    (ResumeAsked, on_resume),
    (RetryAsked, on_retry),
    (SkipAsked, on_skip),
    (ResolveAsked, on_resolve),
    (AbandonAsked, on_abandon),
)
HANDLERS: Mapping[tuple[SagaStatus, type[Input]], _Handler] = {
    **{(SagaStatus.RUNNING, kind): handler for kind, handler in _WHILE_MOVING},
    **{(SagaStatus.COMPENSATING, kind): handler for kind, handler in _WHILE_MOVING},
    **{(status, kind): handler for status in SETTLED for kind, handler in _WHEN_SETTLED},
    **{
        (status, kind): refuse_ended if status in ENDS else handler
        for status in SagaStatus
        for kind, handler in _BY_PEOPLE
    },
    (SagaStatus.ABANDONED, AbandonAsked): _on_nothing,
    (SagaStatus.RUNNING, CancelAsked): _on_cancel,
    (SagaStatus.COMPENSATING, CancelAsked): _on_nothing,
    (SagaStatus.COMPLETED, CancelAsked): _refuse_cancel,
    (SagaStatus.COMPENSATED, CancelAsked): _on_nothing,
    (SagaStatus.NEEDS_ATTENTION, CancelAsked): on_cancel_parked,
    (SagaStatus.ABANDONED, CancelAsked): _refuse_cancel,
    (SagaStatus.RUNNING, RecallAsked): _on_recall,
    (SagaStatus.COMPENSATING, RecallAsked): _on_nothing,
    (SagaStatus.COMPLETED, RecallAsked): _recall_completed,
    (SagaStatus.COMPENSATED, RecallAsked): _on_nothing,
    (SagaStatus.NEEDS_ATTENTION, RecallAsked): _on_nothing,
    (SagaStatus.ABANDONED, RecallAsked): _refuse_recall,
}
"""(saga status, input) -> handler, for all inputs except StartRequested, which comes only when there is no saga yet."""
