"""The way forward: which actions start next, what waits, which blocks open and close, and when the saga is done or turns."""

from __future__ import annotations

import heapq
from typing import Any

from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Delay,
    ForEach,
    OnFailure,
    Operation,
    Repeat,
    Switch,
)
from saga_coordinator.saga.expressions.condition import evaluate_condition, evaluate_instant, evaluate_list
from saga_coordinator.saga.expressions.expression import Template, as_text
from saga_coordinator.saga.machine.ahead import Ahead, Turn
from saga_coordinator.saga.machine.attempts import start_attempt
from saga_coordinator.saga.machine.draft import Draft, is_past_return
from saga_coordinator.saga.machine.effects import LookForEvent
from saga_coordinator.saga.machine.entries import (
    AttemptRefused,
    AttemptSucceeded,
    BlockClosed,
    BlockOpened,
    EventReceived,
    SagaCompleted,
    SagaFailed,
    SagaParked,
    StepFailed,
    StepSkipped,
    WaitStarted,
)
from saga_coordinator.saga.machine.place import (
    Node,
    Place,
    Position,
    node_of,
    outermost,
    places_in,
    position_of,
)
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode, clip

_ACTION = OperationKind.ACTION
_WORK_PER_EVENT = 10
_WORK_PER_OUTPUT = 100


def go_forward(draft: Draft) -> None:
    """Starts every ready step, until the saga has to wait for an outcome, an event or a timer."""
    while draft.state.status is SagaStatus.RUNNING:
        ahead = _ahead(draft)
        if (failed := ahead.failed(draft.state)) is not None:
            _fail(draft, failed)
            return
        if ahead.is_over:
            _complete(draft)
        elif is_overdue(draft):
            cause = Cause(CauseCode.DEADLINE, "the saga's deadline passed before it had completed")
            draft.record(SagaFailed(cause))
        elif not draft.may_call or not _do_next(draft, ahead):
            return


def _ahead(draft: Draft) -> Ahead:
    ahead = draft.agenda.ahead
    assert ahead is not None, "the saga goes forward no more"
    return ahead


def _do_next(draft: Draft, ahead: Ahead) -> bool:
    """Moves the first instance, in the order written, that can move now. Returns False if there is none, or if this decision
    may do no more work.
    """
    queue = ahead.others or None
    if ahead.calls and (queue is None or ahead.calls[0] < queue[0]) and has_room(draft):
        queue = ahead.calls
    retry = next_retry(draft)
    if (queue is None and retry is None) or not draft.may_do_more():
        return False
    if queue is None or (retry is not None and retry[0] < queue[0].position):
        assert retry is not None
        _try_again(draft, ahead.node(retry[1]))
        return True
    _, turn, key = heapq.heappop(queue)
    match turn:
        case Turn.START:
            _start(draft, ahead.node(key))
        case Turn.BEGIN_ITEM:
            ahead.next_item(key, draft.state)
        case Turn.CLOSE:
            _close_or_fail(draft, ahead.node(key))
    return True


def is_overdue(draft: Draft) -> bool:
    """Tells whether the saga's deadline has passed while there is a way back."""
    deadline_at = draft.state.deadline_at
    return (
        deadline_at is not None
        and deadline_at <= draft.now
        and not is_past_return(draft.definition, draft.state)
    )


def _fail(draft: Draft, node: Node) -> None:
    state = draft.state.step(node.key)
    assert state.cause is not None, f"step {node.key} has failed without a cause"
    cause = Cause(state.cause.code, state.cause.message, node.key, state.cause.requested_by)
    if not _is_for_a_person(draft, node):
        draft.record(SagaFailed(cause))
    elif draft.state.in_flight == 0:
        draft.record(SagaParked(cause, draft.remaining_effects()))
    # otherwise nothing new starts; the next decision comes when an attempt in flight ends


def _is_for_a_person(draft: Draft, node: Node) -> bool:
    """Tells whether the failure of an instance leaves neither a way forward nor a way back, so that a person has to decide."""
    # With the pivot done or in doubt, undoing the steps before it could be as wrong as going on.
    is_in_doubt = node.step.is_pivot and draft.state.step(node.key).effect > EffectKnown.NONE
    is_wanted = node.step.on_failure is OnFailure.PAUSE
    return is_in_doubt or is_wanted or draft.definition.is_after_pivot(node.key)


def is_blocked(draft: Draft) -> bool:
    """Tells whether the failure for which a saga was parked on its way forward still stands, so that the saga cannot go on."""
    assert draft.state.failure is not None, "a saga was parked without a cause"
    if not draft.state.failure.step:  # it was taken over too often, and something has been learned since
        return False
    node = node_of(draft.definition, draft.state, draft.state.failure.step)
    is_failed = draft.state.step(node.key).status is StepStatus.FAILED
    return is_failed and _is_for_a_person(draft, node)


def _complete(draft: Draft) -> None:
    template = draft.definition.block.output
    if template is None:
        draft.record(SagaCompleted())
        return
    try:
        output = template.render(draft.scope(outermost(draft.definition)))
        draft.record(SagaCompleted(draft.computed(output, "the output of the saga")))
    except ExpressionError as error:
        draft.record(SagaCompleted(output_problem=clip(str(error))))


def _try_again(draft: Draft, node: Node) -> None:
    """Makes the next attempt of an action."""
    state = draft.state.step(node.key)
    if state.deadline_at is not None and state.deadline_at <= draft.now:  # nobody drove the saga in time
        _fail_step(draft, node, CauseCode.STEP_DEADLINE, "the step's deadline passed between two attempts")
    elif state.action_attempts > 0:
        start_attempt(draft, node, _ACTION)
    else:  # a person retries what failed before its first attempt, maybe because its condition could not be computed
        _start(draft, node)


def _start(draft: Draft, node: Node) -> None:
    """Starts a step; a call needs room."""
    if draft.state.step(node.key).is_to_skip:
        draft.record(StepSkipped(node.key))
        return
    try:
        if node.step.when is not None and not evaluate_condition(node.step.when, draft.scope(node.place)):
            draft.record(StepSkipped(node.key))
            return
        match node.step.action:
            case Operation():
                start_attempt(draft, node, _ACTION)
            case Delay() | AwaitEvent() | Approval():
                _wait(draft, node)
            case _:
                _open(draft, node)
    except ExpressionError as error:
        _fail_step(draft, node, CauseCode.EXPRESSION_INVALID, str(error))


def has_room(draft: Draft) -> bool:
    """Tells whether one more operation may begin beside those that are in flight or between two attempts."""
    limit = draft.definition.max_parallel
    return limit == 0 or limit > draft.agenda.begun


def has_room_again(draft: Draft) -> bool:
    """Tells whether an operation that has begun may make another attempt. An operation that was pending needs a place again."""
    limit = draft.definition.max_parallel
    return limit == 0 or limit > draft.state.in_flight


def next_retry(draft: Draft) -> tuple[Position, str] | None:
    """The operation that is attempted again next; None if there is none, or no room. A held operation comes only when room was
    found for it.
    """
    if draft.room_found_for is None and not draft.agenda.retries:
        return None
    if not has_room_again(draft):
        return None
    if (key := draft.room_found_for) is not None:
        return position_of(draft.definition, key, newest_first=draft.agenda.is_undoing), key
    return draft.agenda.retry(draft.state, draft.now)


def _fail_step(draft: Draft, node: Node, code: str, message: str) -> None:
    draft.record(StepFailed(node.key, Cause(code, clip(message))))


# Waits.


def _wait(draft: Draft, node: Node) -> None:
    variables = draft.scope(node.place)
    match node.step.action:
        case Delay(seconds, until):
            due_at = evaluate_instant(until, variables) if until is not None else draft.now + (seconds or 0.0)
            draft.record(WaitStarted(node.key, due_at))
        case AwaitEvent(event, correlation, timeout_seconds):
            text = as_text(correlation.render(variables), variables) if correlation else ""
            draft.computed(text, "the correlation")
            draft.record(WaitStarted(node.key, _after(draft, timeout_seconds), event, text or None))
        case Approval(shows=shows, timeout_seconds=timeout_seconds):
            shown = draft.computed(shows.render(variables), "what is shown for approval") if shows else None
            draft.record(WaitStarted(node.key, _after(draft, timeout_seconds), shown=shown))
        case _:
            raise AssertionError(f"step {node.key} does not wait")
    if not end_wait(draft, node.key) and (wanted := event_to_look_for(draft, node.key)) is not None:
        draft.lookups.append(wanted)


def event_to_look_for(draft: Draft, key: str) -> LookForEvent | None:
    """The event that an open step waits for, if it may have been published before; None if the step waits for no such event."""
    state, action = draft.state.step(key), draft.definition.step(key).action
    if state.wait is None or not state.is_open or not state.wait.correlation:
        return None
    assert isinstance(action, AwaitEvent), f"step {key} waits for an event, and its definition has none"
    return LookForEvent(draft.state.saga_id, action.event, state.wait.correlation, action.look_back_seconds)


def _after(draft: Draft, seconds: float | None) -> float | None:
    return None if seconds is None else draft.now + seconds


def end_wait(draft: Draft, key: str) -> bool:
    """Ends a wait whose event has come or whose time is up. Returns whether the wait has ended."""
    state = draft.state.step(key)
    assert state.wait is not None, f"step {key} does not wait"
    draft.meter.charge(len(draft.state.events) * _WORK_PER_EVENT)
    if event := next((event for event in draft.state.events if _is_awaited(state.wait, event)), None):
        draft.record(AttemptSucceeded(key, _ACTION, state.attempt, event.payload, event_id=event.event_id))
        return True
    if state.pending_until is None or state.pending_until > draft.now:
        return False
    match draft.definition.step(key).action:
        case AwaitEvent(event=name, timeout_seconds=seconds, goes_on=False):
            cause = Cause(CauseCode.EVENT_TIMEOUT, f"no event `{name}` came within {seconds:g} s")
            draft.record(AttemptRefused(key, _ACTION, state.attempt, cause))
        case Approval(timeout_seconds=seconds, goes_on=False):
            cause = Cause(CauseCode.APPROVAL_TIMEOUT, f"nobody decided within {seconds:g} s")
            draft.record(AttemptRefused(key, _ACTION, state.attempt, cause))
        case _:
            draft.record(AttemptSucceeded(key, _ACTION, state.attempt))
    return True


def _is_awaited(wait: WaitStarted, event: EventReceived) -> bool:
    """Tells whether the event ends the wait. An event that was sent to this saga alone needs no correlation."""
    return wait.event == event.name and event.correlation in ("", wait.correlation)


# Blocks.


def _may_grow(draft: Draft, node: Node) -> bool:
    """Tells whether a loop, or one more pass of it, may begin. If not, the step fails before the loop or the pass has any
    effect.

    Only loops make a log long, so only loops are refused: any other step that was reached may be the step that lets the saga
    end well.
    """
    limit = draft.definition.limits.log_entries
    if draft.state.progress < limit:
        return True
    message = f"the saga's log has {limit} entries of what its steps did: beyond that, no loop and no further pass begins"
    _fail_step(draft, node, CauseCode.LIMIT_EXCEEDED, message)
    return False


def _open(draft: Draft, node: Node) -> None:
    if isinstance(node.step.action, ForEach | Repeat) and not _may_grow(draft, node):
        return
    match node.step.action:
        case Switch(cases):
            for index, case in enumerate(cases):
                if case.when is None or evaluate_condition(case.when, draft.scope(node.place)):
                    draft.record(BlockOpened(node.key, branch=index))
                    return
            draft.record(StepSkipped(node.key))
        case ForEach(items):
            found = evaluate_list(items, draft.scope(node.place))
            if len(found) > (limit := draft.definition.limits.items):
                message = f"${{{items.source}}} has {len(found)} items; at most {limit} are allowed"
                _fail_step(draft, node, CauseCode.LIMIT_EXCEEDED, message)
            else:
                draft.computed(found, "the list of items")
                draft.record(BlockOpened(node.key, items=tuple(found)))
        case _:
            draft.record(BlockOpened(node.key))


def _close_or_fail(draft: Draft, node: Node) -> None:
    places = places_in(node, draft.state.step(node.key))
    try:
        _close(draft, node, places)
    except ExpressionError as error:
        _fail_step(draft, node, CauseCode.EXPRESSION_INVALID, str(error))


def _close(draft: Draft, node: Node, places: list[Place]) -> None:
    match node.step.action:
        case ForEach():
            outputs = [_output(draft, place) for place in places]
            draft.record(BlockClosed(node.key, draft.computed(outputs, "the list of the items' outputs")))
        case Repeat(until, max_passes=limit):
            output = _output(draft, places[-1])
            if evaluate_condition(until, draft.scope(places[-1])):
                draft.record(BlockClosed(node.key, output))
            elif len(places) >= limit:
                message = f"`{until.source}` did not hold after {limit} passes"
                _fail_step(draft, node, CauseCode.PASSES_SPENT, message)
            elif _may_grow(draft, node):
                draft.record(BlockOpened(node.key, previous=output))
        case _:
            draft.record(BlockClosed(node.key, _output(draft, places[-1])))


def _output(draft: Draft, place: Place) -> Any:
    template: Template | None = place.block.output
    draft.meter.charge(_WORK_PER_OUTPUT)
    if template is None:
        return draft.scope(place)["steps"][place.block.steps[-1].name]["output"]
    return draft.computed(template.render(draft.scope(place)), "the output of the block")
