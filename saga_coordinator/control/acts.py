"""Makes acts, and has those recorded that are refused."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from saga_coordinator.saga.words.act import Act, ActRecord, ActResult, Declaration, Subject, Verb
from saga_coordinator.saga.words.errors import NotPossibleNow, QuotaReached
from saga_coordinator.saga.words.identity import uuid7
from saga_coordinator.saga.words.namespace import Namespace


class Actor(Protocol):
    """Who acts: the principal that the coordinator knows, and the namespace that the act is about."""

    @property
    def principal(self) -> str: ...
    @property
    def namespace(self) -> Namespace: ...


class ActRecorder(Protocol):
    async def record(self, record: ActRecord) -> None:
        """Makes a record durable. Raises Unavailable when the database is away."""


def new_act(actor: Actor, declaration: Declaration, verb: Verb, subject: Subject, act_id: str = "") -> Act:
    """An act of this moment. An identity that is made up here sorts by the local clock, in milliseconds."""
    return Act(
        act_id or uuid7(time.time(), secrets.randbits),
        verb,
        subject,
        actor.namespace,
        actor.principal,
        declaration.declared_by,
        declaration.reason,
    )


@asynccontextmanager
async def refusals_recorded(recorder: ActRecorder, act: Act) -> AsyncIterator[None]:
    """Records the act where what is done inside is refused by the state of things; the refusal goes on."""
    try:
        yield
    except (NotPossibleNow, QuotaReached) as refusal:
        await recorder.record(ActRecord(act, ActResult.REFUSED, why=str(refusal)))
        raise
