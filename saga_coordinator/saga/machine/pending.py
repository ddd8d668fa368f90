"""Pending operations: the polls that ask for their outcomes, and the heartbeats that say that somebody still works at them.

Polls and heartbeats use no attempt of the operation's budget. Each recorded one is an entry, so they become rare while an
operation is pending for long.
"""

from __future__ import annotations

from dataclasses import replace

from saga_coordinator.saga.definition.model import Operation
from saga_coordinator.saga.machine.answers import HeartbeatTaken
from saga_coordinator.saga.machine.attempts import call, variables
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import AttemptPending
from saga_coordinator.saga.machine.place import Node
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.words.errors import ExpressionError

_POLL_SECONDS_MAX = 3600.0
_POLLS_DOUBLED_MAX = 30
_POLLS_STEADY = 9
"""The number of polls that follow each other at the status method's interval. Later polls become rarer, because each poll is an
entry.
"""
_HEARTBEAT_MARGIN = 0.5
_HEARTBEAT_SHARE = 1 / 16
"""A recorded heartbeat counts for the timeout and a while longer: the margin is a share of the timeout, the other share is of
the time for which the attempt has been pending, and the longer of the two times is added. A further heartbeat is recorded only
when the recorded one counts for less than one timeout from now on. So a long attempt writes few heartbeat entries.
"""


def poll(draft: Draft, node: Node) -> None:
    """Asks about a pending operation again, and records when to ask the next time."""
    state = draft.state.step(node.key)
    operation = node.step.operation(state.operation)
    try:
        question = _question(draft, node, operation, state)
    except ExpressionError:  # it could be computed once; the outcome will be reported, or not
        poll_at = None
    else:
        poll_at = next_poll_at(draft.now, operation, state.polls + 1)
        draft.invocations.append(question)
    draft.record(
        AttemptPending(
            node.key,
            state.operation,
            state.attempt,
            state.pending_until,
            poll_at,
            state.heartbeat_until,
        )
    )


def _question(draft: Draft, node: Node, operation: Operation, state: StepState) -> Invoke:
    """The call that asks for the outcome: the status method, or the operation itself if it has none."""
    question = replace(call(draft, node, state.operation, state.attempt), is_poll=True)
    if (status := operation.status) is None:
        return question
    if status.input is None:
        return replace(question, method=status.method)
    rendered = status.input.render(variables(draft, node, state.operation))
    return replace(question, method=status.method, input=draft.computed(rendered, "the input"))


def next_poll_at(now: float, operation: Operation, polls: int) -> float | None:
    """The instant of the next poll after so many polls; None if the operation is not polled."""
    if operation.poll_seconds is None:
        return None
    if operation.status is not None:
        polls = max(0, polls - _POLLS_STEADY)
    pause = operation.poll_seconds * 2.0 ** min(polls, _POLLS_DOUBLED_MAX)
    return now + min(pause, max(_POLL_SECONDS_MAX, operation.poll_seconds))


def take_heartbeat(draft: Draft, key: str, details: str) -> None:
    """Takes a heartbeat about the pending operation of that instance. Records it only if the last recorded heartbeat is about
    to run out.
    """
    state = draft.state.step(key)
    timeout = draft.definition.step(key).operation(state.operation).heartbeat_seconds
    if timeout is None:
        return
    if state.is_in_flight:  # it was faster than the answer PENDING, from which the time is counted anyway
        draft.answer = HeartbeatTaken(timeout, 0.0)
        return
    until = state.heartbeat_until or draft.now
    if until < draft.now + timeout:
        pending_seconds = draft.now + timeout - (state.heartbeat_from or until)
        until = draft.now + timeout + max(_HEARTBEAT_MARGIN * timeout, _HEARTBEAT_SHARE * pending_seconds)
        draft.record(
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
    draft.answer = HeartbeatTaken(timeout, until - timeout - draft.now)
