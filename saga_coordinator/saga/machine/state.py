"""A saga's state, and how each entry of its log changes it.

`fold` is the only way to a state: it applies the entries of the log one by one (P7). The tables in `transitions` say which
entry may follow in which status. A pair without a row is a defect and raises `ImpossibleTransition`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from enum import IntEnum
from typing import Any, cast, get_args

from saga_coordinator.saga.definition.model import Operation, Step
from saga_coordinator.saga.machine.entries import (
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockClosed,
    BlockOpened,
    Entry,
    EventReceived,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    Parent,
    SagaAdopted,
    SagaCompleted,
    SagaEntry,
    SagaFailed,
    SagaParked,
    SagaRecalled,
    SagaStarted,
    SagaUnparked,
    StepEntry,
    StepFailed,
    StepSkipped,
    UndoUnparked,
    WaitStarted,
    entry_type,
)
from saga_coordinator.saga.machine.growing import having
from saga_coordinator.saga.machine.progress import counted, is_progress
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
from saga_coordinator.saga.words.outcome import Cause

SUCCEEDED, REFUSED = "SUCCEEDED", "REFUSED"
"""The outcomes that decide an operation, by the names that `OutcomeLate.outcome` has for them."""


class EffectKnown(IntEnum):
    """The knowledge about an action's effect, from all of its attempts together.

    It only grows, with one exception: if a PENDING attempt has left the only doubt, the doubt goes when that attempt is
    reported REFUSED, even later.
    """

    NONE = 1
    POSSIBLE = 2
    CERTAIN = 3


_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

_STEP_TYPES: frozenset[type[Entry]] = frozenset(get_args(StepEntry))
_NEEDING_LEAVE: frozenset[type[Entry]] = frozenset(
    {AttemptStarted, InputInvalid, StepSkipped, WaitStarted, BlockOpened, BlockClosed}
)
"""Entries that begin or continue a step. The saga's status must allow them."""
_LEAVING_DOUBT = (AttemptUnknown, AttemptUnresolved, AttemptPending)
_MAY_BE_UNSEEN = (AttemptSucceeded, AttemptRefused, AttemptUnknown, AttemptUnresolved)
"""Entries with a `settles_at`: until that instant, the call itself may still be in flight."""


@immutable
class StepState:
    """The state of one instance of a step. `operation` is the present operation: the action, until a compensation starts.
    `attempt` and `failures` count its attempts and failures.

    Instants are seconds since the epoch. At `retry_at` the next attempt is due. Until `settles_at` an attempt of the action may
    be in flight although the coordinator no longer waits for its end. Before `pending_until` the outcome has to be reported; a
    wait ends at that instant. At `poll_at` the participant is asked again about the pending operation. Before `heartbeat_until`
    the participant has to send a heartbeat. After `deadline_at` no attempt of the action is made.

    `opened` is set for a step that runs a block: it holds the items, the index of the branch, or for each pass the output of
    the pass before. `wait` says what a waiting step waits for, unless it waits for a participant's report.
    """

    status: StepStatus = StepStatus.PENDING
    effect: EffectKnown = EffectKnown.NONE
    operation: OperationKind = _ACTION
    attempt: int = 0
    failures: int = 0
    is_in_flight: bool = False
    is_held: bool = False
    """True if the last attempt was not made. From `retry_at` on, the coordinator looks for room for it."""
    returns: int = 0
    """The number of attempts in a row that workers gave back without beginning them."""
    output: Any = None
    cause: Cause | None = None
    retry_at: float | None = None
    settles_at: float | None = None
    pending_until: float | None = None
    poll_at: float | None = None
    polls: int = 0
    heartbeat_until: float | None = None
    heartbeat_from: float | None = None
    """The first `heartbeat_until` of the attempt that is pending."""
    deadline_at: float | None = None
    opened: tuple[Any, ...] | None = None
    wait: WaitStarted | None = None
    action_attempts: int = 0
    effect_before_pending: EffectKnown = EffectKnown.NONE
    accepted_attempt: int = 0
    """The number of the PENDING attempt of the action, if it has left the only doubt. 0 if another attempt has left a doubt
    too, or none has.
    """
    told: frozenset[tuple[OperationKind, str]] = frozenset()
    """The decisive outcomes, SUCCEEDED and REFUSED, that the participant has told of each operation, in time or late (P9)."""

    @property
    def is_output_known(self) -> bool:
        """Tells whether `output` is what the action returned, and not just unknown."""
        return (_ACTION, SUCCEEDED) in self.told

    @property
    def is_refused(self) -> bool:
        """Tells whether the action was refused, by whichever attempt."""
        return (_ACTION, REFUSED) in self.told

    @property
    def is_waiting_for_report(self) -> bool:
        """Tells whether a participant has accepted the present operation and will report its outcome later."""
        return self.status is StepStatus.WAITING and self.wait is None

    @property
    def is_open(self) -> bool:
        """Tells whether the present operation is undecided: in flight, between attempts or awaiting a report."""
        return self.is_in_flight or self.retry_at is not None or self.status is StepStatus.WAITING

    def attempts(self, kind: OperationKind) -> int:
        """The number of attempts of that operation."""
        if kind is _ACTION:
            return self.action_attempts
        return self.attempt if self.operation is _COMPENSATION else 0


UNTOUCHED = StepState()


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
    if type(entry) in _STEP_TYPES:  # `isinstance` of a union tries its members one by one
        return _apply_to_step(state, cast("StepEntry", entry))
    return _apply_to_saga(state, cast("SagaEntry", entry))


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
            )
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
                remaining=(),
                parked_from=None,
            )
        case _:
            return replace(state, sequence=sequence, status=status)


def _turn(steps: Mapping[str, StepState]) -> dict[str, StepState]:
    """Gives up, at the turn, the blocks, and the actions that wait or are between attempts. Actions in flight may still
    settle.
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
    after = _MOVES.get(type(entry), _moved)(before, status, entry)
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
    )


def _without(events: tuple[EventReceived, ...], entry: StepEntry) -> tuple[EventReceived, ...]:
    taken = entry.event_id if isinstance(entry, AttemptSucceeded) else None
    return events if taken is None else tuple(event for event in events if event.event_id != taken)


def _fits(state: SagaState, before: StepState, entry: StepEntry) -> bool:
    kind = type(entry)
    if kind in _NEEDING_LEAVE:
        return entry.operation in OPERATION_ALLOWED.get(state.status, ())
    if kind is AttemptSucceeded and entry.operation is _ACTION and before.status is StepStatus.FAILED:
        return state.is_going_forward and before.operation is _ACTION
    return kind is OutcomeLate or entry.operation is before.operation


def _late(step: StepState, entry: OutcomeLate) -> StepState:
    told = step.told | {(entry.operation, entry.outcome)}
    if entry.settles_doubt:
        return replace(step, told=told, effect=EffectKnown.NONE, accepted_attempt=0, cause=entry.cause)
    if entry.operation is _COMPENSATION or entry.outcome != SUCCEEDED:
        return replace(step, told=told)
    # Every attempt of a compensation carries the same input, so the output comes too late once the compensation was attempted.
    output = entry.output if step.operation is _ACTION else step.output
    return replace(step, told=told, effect=EffectKnown.CERTAIN, output=output)


def _after_refusal(step: StepState, entry: AttemptRefused | NothingToUndo) -> EffectKnown:
    """The knowledge about the action's effect after a refusal. A doubt goes if the refused attempt had left it."""
    if step.status is StepStatus.WAITING:
        return step.effect_before_pending
    is_settled = isinstance(entry, AttemptRefused) and entry.settles_doubt
    return EffectKnown.NONE if is_settled else step.effect


def _moved(step: StepState, status: StepStatus, entry: StepEntry) -> StepState:
    operation, attempt = entry.operation, entry.attempt
    is_action = operation is _ACTION
    effect, effect_before_pending, output, told = (
        step.effect,
        step.effect_before_pending,
        step.output,
        step.told,
    )
    failures = step.failures if operation is step.operation else 0
    cause, retry_at, settles_at, pending_until = step.cause, None, step.settles_at, None
    poll_at, polls, deadline_at = None, 0, step.deadline_at
    heartbeat_until = heartbeat_from = None
    accepted_attempt = step.accepted_attempt
    match entry:
        case AttemptSucceeded():
            told |= {(operation, SUCCEEDED)}
            if is_action:
                output, cause = entry.output, None
                effect = EffectKnown.CERTAIN if step.wait is None else effect
        case AttemptRefused() | NothingToUndo():
            told |= {(operation, REFUSED)}
            cause = entry.cause
            if is_action:
                effect = _after_refusal(step, entry)
        case AttemptUnknown():
            cause, retry_at = entry.cause, entry.retry_at
            failures += entry.settles_at is None  # one cut off by a crash says nothing about the participant
        case AttemptUnresolved():
            cause = entry.cause
        case AttemptPending():
            pending_until, poll_at = entry.pending_until, entry.poll_at
            heartbeat_until = entry.heartbeat_until
            is_again = step.status is StepStatus.WAITING
            heartbeat_from = step.heartbeat_from if is_again else heartbeat_until
            polls = step.polls + (is_again and heartbeat_until == step.heartbeat_until)
            effect_before_pending = effect_before_pending if is_again else effect
        case AttemptStarted():
            deadline_at = entry.deadline_at or deadline_at
        case InputInvalid():
            cause = entry.cause
            attempt -= 1  # it was never made
        case _:  # the others do not come here
            pass
    if is_action and isinstance(entry, _LEAVING_DOUBT) and getattr(entry, "was_sent", None) is not False:
        is_first = isinstance(entry, AttemptPending) and effect is EffectKnown.NONE
        accepted_attempt = attempt if is_first or attempt == accepted_attempt else 0
        effect = max(effect, EffectKnown.POSSIBLE)
    if is_action and isinstance(entry, _MAY_BE_UNSEEN) and entry.settles_at is not None:
        settles_at = max(settles_at or entry.settles_at, entry.settles_at)
    return StepState(
        status=status,
        effect=effect,
        operation=operation,
        attempt=attempt,
        failures=failures,
        is_in_flight=isinstance(entry, AttemptStarted),
        output=output,
        cause=cause,
        retry_at=retry_at,
        settles_at=settles_at,
        pending_until=pending_until,
        poll_at=poll_at,
        polls=polls,
        heartbeat_until=heartbeat_until,
        heartbeat_from=heartbeat_from,
        deadline_at=deadline_at,
        opened=step.opened,
        wait=step.wait,
        action_attempts=attempt if is_action else step.action_attempts,
        effect_before_pending=effect_before_pending,
        accepted_attempt=accepted_attempt,
        told=told,
        returns=step.returns if isinstance(entry, AttemptStarted) else 0,
    )


def _held(step: StepState, status: StepStatus, entry: AttemptHeld) -> StepState:
    attempt = entry.attempt - 1 if entry.is_given_back else entry.attempt
    return replace(
        step,
        status=status,
        attempt=attempt,
        action_attempts=attempt if entry.operation is _ACTION else step.action_attempts,
        is_in_flight=False,
        is_held=True,
        returns=step.returns + (not entry.is_given_back),
        cause=entry.cause,
        retry_at=entry.retry_at,
    )


def _skipped(step: StepState, status: StepStatus, entry: StepSkipped) -> StepState:
    return replace(step, status=status)


def _failed(step: StepState, status: StepStatus, entry: StepFailed) -> StepState:
    return replace(step, status=status, cause=entry.cause, retry_at=None, is_held=False)


def _waiting(step: StepState, status: StepStatus, entry: WaitStarted) -> StepState:
    return replace(
        step,
        status=status,
        attempt=entry.attempt,
        action_attempts=entry.attempt,
        wait=entry,
        pending_until=entry.until,
    )


def _inside(step: StepState, status: StepStatus, entry: BlockOpened) -> StepState:
    return replace(step, status=status, opened=_opened(step, entry), output=entry.previous)


def _closed(step: StepState, status: StepStatus, entry: BlockClosed) -> StepState:
    return replace(step, status=status, output=entry.output, told=step.told | {(_ACTION, SUCCEEDED)})


_MOVES: Mapping[type[StepEntry], Callable[[StepState, StepStatus, Any], StepState]] = {
    OutcomeLate: lambda step, status, entry: _late(step, entry),
    AttemptHeld: _held,
    StepSkipped: _skipped,
    StepFailed: _failed,
    WaitStarted: _waiting,
    BlockOpened: _inside,
    BlockClosed: _closed,
}
"""The function that applies each kind of entry to a step. `_moved` applies the entries about attempts, which are many."""


def _opened(step: StepState, entry: BlockOpened) -> tuple[Any, ...]:
    if entry.items is not None:
        return entry.items
    if entry.branch is not None:
        return (entry.branch,)
    return (*(step.opened or ()), entry.previous)


def needs_compensation(step: Step, state: StepState) -> bool:
    """Tells whether the step's action has, or may have, an effect that its compensation has not undone yet."""
    if step.compensation is None or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or (step.compensate_on_refusal and state.is_refused)


def has_standing_effect(step: Step, state: StepState) -> bool:
    """Tells whether an effect of the step stands or may stand. A parked saga lists these steps (P2).

    Waits and blocks have no effects themselves. The effects of the steps in a block belong to those steps.
    """
    if not isinstance(step.action, Operation):
        return False
    if step.is_read_only or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or needs_compensation(step, state)
