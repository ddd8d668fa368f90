"""A saga's state, and how each entry of its log changes it.

`fold` is the only way to a state: it applies the entries of the log one by one (P7). The tables in `transitions` say which
entry may follow in which status. A pair without a row is a defect and raises `ImpossibleTransition`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any, cast

from saga_coordinator.saga.machine.act_entries import (
    SAGA_ACTS,
    STEP_ACTS,
    FoundUndone,
    SagaAbandoned,
    SagaAct,
    SagaPaused,
    SagaResumed,
    StepAct,
)
from saga_coordinator.saga.machine.entries import (
    STEP_TYPES,
    AttemptStarted,
    AttemptSucceeded,
    BlockClosed,
    BlockOpened,
    Entry,
    EventReceived,
    InputInvalid,
    OutcomeLate,
    Parent,
    SagaAdopted,
    SagaCompensated,
    SagaCompleted,
    SagaEntry,
    SagaFailed,
    SagaParked,
    SagaRecalled,
    SagaStarted,
    SagaUnparked,
    StepEntry,
    StepSkipped,
    UndoUnparked,
    WaitStarted,
)
from saga_coordinator.saga.machine.growing import having
from saga_coordinator.saga.machine.progress import counted, is_progress
from saga_coordinator.saga.machine.step_moves import moved_step
from saga_coordinator.saga.machine.step_state import UNTOUCHED, StepState
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.machine.transitions import (
    OPERATION_ALLOWED,
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    SagaStatus,
    StepStatus,
)
from saga_coordinator.saga.words.errors import ImpossibleTransition
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause, CauseCode

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

_NEEDING_LEAVE: frozenset[type[Entry]] = frozenset(
    {AttemptStarted, InputInvalid, StepSkipped, WaitStarted, BlockOpened, BlockClosed}
)
"""Entries that begin or continue a step. The saga's status must allow them, and no person may hold the saga."""
_ABOUT_EITHER: frozenset[type[Entry]] = frozenset({OutcomeLate, FoundUndone})
"""Entries that may be about another operation than the step's present one."""
_ACTS = frozenset((*STEP_ACTS, *SAGA_ACTS))


@immutable
class SagaState:
    """The fold of a saga's log. `sequence` is the number of entries folded; steps never touched are absent from `steps`."""

    saga_id: str
    status: SagaStatus
    definition: str
    version: int
    input: Any
    labels: Mapping[str, str]
    deadline_at: float | None
    sequence: int = 1
    steps: Mapping[str, StepState] = field(default_factory=dict)
    failure: Cause | None = None
    """Why the saga failed. It stays the same while the saga is undone, whatever stops the undo."""
    blocked_by: Cause | None = None
    """Why a parked saga cannot go on; None while it is not parked. It is the failure, or what stops the undo."""
    remaining: tuple[str, ...] = ()
    parked_from: SagaStatus | None = None
    """The status in which a parked saga goes on once the reason for parking it is gone; None while it is not parked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    parent: Parent | None = None
    output: Any = None
    output_problem: str | None = None
    events: tuple[EventReceived, ...] = ()
    """The events that no wait has taken yet, in the order of their arrival."""
    event_ids: Mapping[str, None] = field(default_factory=dict)
    """The identities of all events that ever reached the saga."""
    in_flight: int = 0
    """The number of operations in flight."""
    progress: int = 0
    """The number of entries about what steps did. Entries about waiting or about a change of owner do not count."""
    adoption: SagaAdopted | None = None
    """Set while attempts of a lost owner still have to be recorded as unknown. Nothing begins before that."""
    takeovers: int = 0
    """The number of times in a row that a coordinator was lost with an attempt of the saga in flight, without any progress in
    between.
    """
    hold: SagaPaused | None = None
    """Set while a person holds the saga: nothing begins."""
    act_ids: tuple[str, ...] = ()
    """The identities of the acts that are entries of the log."""
    memo: list[Any] = field(default_factory=list, init=False, compare=False, repr=False)
    """The agenda that was computed from this state, for the next decision to take: see `Agenda`. It holds no facts that the
    state does not.
    """

    @property
    def has_turned(self) -> bool:
        """Tells whether the saga goes back, or is parked on its way back."""
        return SagaStatus.COMPENSATING in (self.status, self.parked_from)

    @property
    def is_going_forward(self) -> bool:
        """Tells whether the saga goes forward, or is parked on its way forward."""
        return SagaStatus.RUNNING in (self.status, self.parked_from)

    def step(self, name: str) -> StepState:
        """The step's state, also when nothing has happened to it yet."""
        return self.steps.get(name, UNTOUCHED)


def fold(saga_id: str, entries: Iterable[Entry]) -> SagaState:
    """The state that a log leads to.

    Raises:
        ImpossibleTransition: the log is empty, or holds an entry that the tables do not allow there.
    """
    state: SagaState | None = None
    for entry in entries:
        state = apply(saga_id, state, entry)
    if state is None:
        raise ImpossibleTransition(f"saga {saga_id} has an empty log")
    return state


def apply(saga_id: str, state: SagaState | None, entry: Entry) -> SagaState:
    """Returns the state after one more entry. `state` is None before the first entry.

    Raises:
        ImpossibleTransition: the tables have no such row.
    """
    if state is None:
        if not isinstance(entry, SagaStarted):
            raise ImpossibleTransition(
                f"saga {saga_id}: a log begins with saga_started, not {entry_type(entry)}"
            )
        status = SAGA_TRANSITIONS[None, SagaStarted]
        return SagaState(
            saga_id,
            status,
            entry.definition,
            entry.version,
            entry.input,
            entry.labels,
            entry.deadline_at,
            headers=entry.headers or {},
            parent=entry.parent,
        )
    if type(entry) in STEP_TYPES:  # `isinstance` of a union tries its members one by one
        after = _apply_to_step(state, cast("StepEntry", entry))
    else:
        after = _apply_to_saga(state, cast("SagaEntry", entry))
    if type(entry) in _ACTS:
        return replace(after, act_ids=(*after.act_ids, cast("SagaAct | StepAct", entry).act_id))
    return after


def _apply_to_saga(state: SagaState, entry: SagaEntry) -> SagaState:
    status = SAGA_TRANSITIONS.get((state.status, type(entry)))
    if status is None:
        raise ImpossibleTransition(
            f"saga {state.saga_id}: {entry_type(entry)} cannot follow in {state.status}"
        )
    sequence = state.sequence + 1
    match entry:
        case SagaFailed():
            steps = _turn(state.steps)
            return replace(
                state, sequence=sequence, status=status, failure=entry.cause, steps=steps, takeovers=0
            )
        case SagaAdopted():
            is_cut_off = state.in_flight > 0
            adoption = entry if is_cut_off else None
            takeovers = state.takeovers + is_cut_off
            return replace(state, sequence=sequence, status=status, adoption=adoption, takeovers=takeovers)
        case SagaRecalled():
            return replace(state, sequence=sequence, status=status, failure=entry.cause, takeovers=0)
        case SagaCompleted():
            return replace(
                state,
                sequence=sequence,
                status=status,
                output=entry.output,
                output_problem=entry.output_problem,
                hold=None,
            )
        case SagaCompensated():
            return replace(state, sequence=sequence, status=status, hold=None)
        case EventReceived():
            return replace(
                state,
                sequence=sequence,
                events=(*state.events, entry),
                event_ids=having(state.event_ids, entry.event_id, None),
            )
        case SagaParked():
            failure = state.failure or entry.cause
            return replace(
                state,
                sequence=sequence,
                status=status,
                failure=failure,
                blocked_by=entry.cause,
                remaining=entry.remaining,
                parked_from=state.status,
            )
        case SagaUnparked() | UndoUnparked():
            if status is not state.parked_from:
                raise ImpossibleTransition(
                    f"saga {state.saga_id}: {entry_type(entry)} cannot follow, because it was parked while {state.parked_from}"
                )
            return replace(
                state,
                sequence=sequence,
                status=status,
                failure=state.failure if state.has_turned else None,
                blocked_by=None,
                remaining=(),
                parked_from=None,
            )
        case SagaPaused() | SagaResumed() | SagaAbandoned():
            return _after_act(replace(state, sequence=sequence, status=status), entry)
        case _:
            return replace(state, sequence=sequence, status=status)


def _after_act(state: SagaState, entry: SagaAct) -> SagaState:
    match entry:
        case SagaPaused():
            return replace(state, hold=entry)
        case SagaResumed():
            return replace(state, hold=None)
        case SagaAbandoned():
            cause = Cause(CauseCode.ABANDONED, entry.reason, requested_by=entry.requested_by)
            return replace(
                state,
                failure=state.failure or cause,
                steps=_turn(state.steps),
                blocked_by=None,
                remaining=entry.remaining,
                parked_from=None,
                hold=None,
            )


def _turn(steps: Mapping[str, StepState]) -> dict[str, StepState]:
    """Gives up, at the turn and when the saga is abandoned, the blocks, and the actions that wait or are between attempts.
    Actions in flight may still settle.
    """
    return {
        name: replace(
            step,
            status=StepStatus.FAILED,
            retry_at=None,
            is_held=False,
            pending_until=None,
            poll_at=None,
            heartbeat_until=None,
        )
        if not step.is_in_flight and (step.is_open or step.status is StepStatus.RUNNING)
        else step
        for name, step in steps.items()
    }


def _apply_to_step(state: SagaState, entry: StepEntry) -> SagaState:
    name = entry.step
    before = state.step(name)
    status = STEP_TRANSITIONS.get((before.status, entry.operation, type(entry)))
    if status is None or not _fits(state, before, entry):
        raise ImpossibleTransition(
            f"saga {state.saga_id}: {entry_type(entry)} of {entry.operation} {name!r} cannot follow while the saga is "
            f"{state.status} and the step {before.status}"
        )
    after = moved_step(before, status, entry)
    remaining = state.remaining
    is_cleared = status is StepStatus.COMPENSATED or after.effect < before.effect
    if name in remaining and is_cleared:  # reported to a parked saga: undone after all, or refused in the end
        remaining = tuple(other for other in remaining if other != name)
    in_flight = state.in_flight + after.is_in_flight - before.is_in_flight
    # All fields are written out: `replace` takes three times as long, and this is the hottest place of the core.
    return SagaState(
        saga_id=state.saga_id,
        status=state.status,
        definition=state.definition,
        version=state.version,
        input=state.input,
        labels=state.labels,
        deadline_at=state.deadline_at,
        sequence=state.sequence + 1,
        steps=having(state.steps, name, after),
        failure=state.failure,
        blocked_by=state.blocked_by,
        remaining=remaining,
        parked_from=state.parked_from,
        headers=state.headers,
        parent=state.parent,
        output=state.output,
        output_problem=state.output_problem,
        events=_without(state.events, entry) if state.events else (),
        event_ids=state.event_ids,
        in_flight=in_flight,
        progress=state.progress + counted(entry),
        adoption=state.adoption if in_flight else None,
        takeovers=0 if is_progress(entry) else state.takeovers,
        hold=state.hold,
        act_ids=state.act_ids,
    )


def _without(events: tuple[EventReceived, ...], entry: StepEntry) -> tuple[EventReceived, ...]:
    taken = entry.event_id if isinstance(entry, AttemptSucceeded) else None
    return events if taken is None else tuple(event for event in events if event.event_id != taken)


def _fits(state: SagaState, before: StepState, entry: StepEntry) -> bool:
    kind = type(entry)
    if kind in _NEEDING_LEAVE:
        return state.hold is None and entry.operation in OPERATION_ALLOWED.get(state.status, ())
    if kind is AttemptSucceeded and entry.operation is _ACTION and before.status is StepStatus.FAILED:
        return state.is_going_forward and before.operation is _ACTION
    return kind in _ABOUT_EITHER or entry.operation is before.operation
