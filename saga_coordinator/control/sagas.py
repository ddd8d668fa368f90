"""A person's acts on sagas. The saga's coordinator decides each of them, and its record is in the append that decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from saga_coordinator.control.acts import Actor, new_act
from saga_coordinator.engine.asking import Answered
from saga_coordinator.saga.machine.inputs import ApprovalDecided, Asked, CancelAsked
from saga_coordinator.saga.words.act import Act, Declaration, Subject, SubjectKind, Verb


class Front(Protocol):
    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """As `Coordinator.ask`."""


class SagaActs:
    """Cancels sagas, and decides what they ask of people."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def ask(self, actor: Actor, saga_id: str, asked: CancelAsked | ApprovalDecided) -> Answered:
        """The saga's answer, as of `Asking.ask`, also for what is raised."""
        return await self._front.ask(saga_id, replace(asked, act=_act(actor, saga_id, asked)))


def _act(actor: Actor, saga_id: str, asked: CancelAsked | ApprovalDecided) -> Act:
    match asked:
        case CancelAsked(reason, requested_by):
            said, subject = Declaration(requested_by, reason), Subject(SubjectKind.SAGA, saga_id)
            return new_act(actor, said, Verb.CANCEL_SAGA, subject)
        case ApprovalDecided(step, is_approved, decided_by, comment):
            verb = Verb.APPROVE_STEP if is_approved else Verb.REJECT_STEP
            said, subject = Declaration(decided_by, comment), Subject(SubjectKind.SAGA, saga_id, step)
            return new_act(actor, said, verb, subject)
