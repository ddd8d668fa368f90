"""What several files of mutants put in the place of parts of the core."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from proof.mutant import instead_of
from saga_coordinator.saga.definition.model import Step
from saga_coordinator.saga.machine import forward
from saga_coordinator.saga.machine.attempts import start_attempt
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import SagaFailed
from saga_coordinator.saga.machine.place import Node
from saga_coordinator.saga.machine.settling import settle
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome

MOVING = (SagaStatus.RUNNING, SagaStatus.COMPENSATING)


def told_otherwise(change: Callable[[Draft, str, Outcome], Outcome]) -> AbstractContextManager[None]:
    """`change(draft, key, outcome)` says for what the outcome of an operation is taken."""

    def settle_otherwise(draft: Draft, key: str, outcome: Outcome, **more: Any) -> None:
        settle(draft, key, change(draft, key, outcome), **more)

    return instead_of(settle, settle_otherwise)


def called_otherwise(change: Callable[[Draft, Node, Invoke], list[Invoke]]) -> AbstractContextManager[None]:
    """`change(draft, node, call)` says which calls are made in the place of one."""

    def start_otherwise(draft: Draft, node: Node, kind: OperationKind) -> None:
        before = len(draft.invocations)
        start_attempt(draft, node, kind)
        if len(draft.invocations) > before:
            draft.invocations[-1:] = change(draft, node, draft.invocations[-1])

    return instead_of(start_attempt, start_otherwise)


def held_for(seconds: Callable[[float], float]) -> AbstractContextManager[None]:
    return told_otherwise(
        lambda draft, key, told: (
            replace(told, delay_seconds=seconds(told.delay_seconds)) if isinstance(told, Held) else told
        )
    )


def looked_for_otherwise(due_at: Callable[[float, float], float]) -> AbstractContextManager[None]:
    """`due_at(now, asked_for)` says from when on it is looked for room."""
    look = Draft.look_for_room
    return instead_of(look, lambda self, key, at: look(self, key, due_at(self.now, at)))


def failing_turns_the_saga(where: Callable[[Step], bool]) -> AbstractContextManager[None]:
    fail = forward._fail

    def turn(draft: Draft, node: Node) -> None:
        if where(node.step):
            draft.record(SagaFailed(Cause("UNKNOWN", "", node.key)))
        else:
            fail(draft, node)

    return instead_of(fail, turn)
