"""A person's acts on sagas. The saga's coordinator decides each of them, and its record is in the append that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from saga_coordinator.control.acts import Actor, new_act
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.reading import Plan
from saga_coordinator.saga.machine.available import AvailableAct
from saga_coordinator.saga.machine.inputs import ApprovalDecided, Asked, CancelAsked, PersonAsked
from saga_coordinator.saga.words.act import Act, Declaration, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import Namespace


class Front(Protocol):
    async def ask(self, saga_id: str, asked: Asked) -> Answered:
        """As `Coordinator.ask`."""

    async def plan(self, saga_id: str, asked: Asked) -> Plan:
        """As `Coordinator.plan`."""

    async def available_acts(self, saga_id: str) -> tuple[int, list[AvailableAct]]:
        """As `Coordinator.available_acts`."""


class ActFinder(Protocol):
    async def asked_as(self, namespace: Namespace, act_id: str) -> tuple[Verb, Subject] | None:
        """What was asked under that identity; None if nothing was. Raises Unavailable when the database is away."""


@immutable
class Demand:
    """A person's demand: an act on a saga, which `asked` makes into what is asked of the saga.

    `act_id` is empty if the caller gave none. `step` is empty for an act on the saga as a whole.
    """

    saga_id: str
    verb: Verb
    asked: Callable[[Act], PersonAsked]
    step: str = ""
    act_id: str = ""
    declaration: Declaration = Declaration()
    is_dry_run: bool = False


class SagaActs:
    """Acts on sagas, and decides what they ask of people."""

    def __init__(self, front: Front, recorded: ActFinder) -> None:
        self._front = front
        self._recorded = recorded

    async def ask(self, actor: Actor, saga_id: str, asked: CancelAsked | ApprovalDecided) -> Answered:
        """The saga's answer, as of `Asking.ask`, also for what is raised."""
        return await self._front.ask(saga_id, replace(asked, act=_act(actor, saga_id, asked)))

    async def do(self, actor: Actor, demand: Demand) -> tuple[Act, Answered]:
        """The act, and the saga's answer; raises as `ask`, and InvalidRequest if `act_id` names another act."""
        act = _act_of(actor, demand)
        if demand.act_id:
            await self._check_identity(act)
        return act, await self._front.ask(demand.saga_id, demand.asked(act))

    async def plan(self, actor: Actor, demand: Demand) -> Plan:
        """What the act would do as things are now. Nothing is changed or recorded. Raises as `Reading.plan`."""
        return await self._front.plan(demand.saga_id, demand.asked(_act_of(actor, demand)))

    async def _check_identity(self, act: Act) -> None:
        """A second act under an identity would not be recorded, and its own saga might take it for the first one."""
        asked = await self._recorded.asked_as(act.namespace, act.act_id)
        if asked is not None and asked != (act.verb, act.subject):
            verb, subject = asked
            what = f"`{subject.detail}` of saga {subject.name}" if subject.detail else subject.name
            raise InvalidRequest.at(
                "act_id", f"is that of another act, {verb.value} of {what}; make up a new UUID for each act"
            )

    async def available(self, saga_id: str) -> tuple[int, list[AvailableAct]]:
        """As `Reading.available_acts`."""
        return await self._front.available_acts(saga_id)


def _act_of(actor: Actor, demand: Demand) -> Act:
    subject = Subject(SubjectKind.SAGA, demand.saga_id, demand.step)
    return new_act(actor, demand.declaration, demand.verb, subject, demand.act_id)


def _act(actor: Actor, saga_id: str, asked: CancelAsked | ApprovalDecided) -> Act:
    match asked:
        case CancelAsked(reason, requested_by):
            said, subject = Declaration(requested_by, reason), Subject(SubjectKind.SAGA, saga_id)
            return new_act(actor, said, Verb.CANCEL_SAGA, subject)
        case ApprovalDecided(step, is_approved, decided_by, comment):
            verb = Verb.APPROVE_STEP if is_approved else Verb.REJECT_STEP
            said, subject = Declaration(decided_by, comment), Subject(SubjectKind.SAGA, saga_id, step)
            return new_act(actor, said, verb, subject)
