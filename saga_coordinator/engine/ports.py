"""What the engine needs of the rooms below it. A simulation or a test can stand in for Postgres and the network.

The docstrings of the store's classes say more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from saga_coordinator.saga.definition.model import RunnableDefinition
from saga_coordinator.saga.machine.effects import Invoke, LookForEvent, LookForRoom
from saga_coordinator.saga.machine.inputs import EventArrived
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.outcome import Held, Outcome
from saga_coordinator.store.appends import LogWriter
from saga_coordinator.store.records import Claim, ClaimGroup, Driver, Event, KeptEvent, Letter, LogPage


class Performers(Protocol):
    """The performers of effects: participants, other sagas, and the kept events."""

    @property
    def worker_names(self) -> frozenset[str]:
        """The participants whose attempts are tasks of workers."""

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt. Never raises for anything that a participant does."""

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        """Says why an attempt would be held now, and when to look again; None if there is room, which is then kept for it."""

    async def look_for_event(self, wanted: LookForEvent) -> EventArrived | None:
        """Looks for an event that came before the saga began to wait for it. Raises Unavailable."""


class Participants(Protocol):
    """The way to the participants in the directory."""

    @property
    def names(self) -> frozenset[str]:
        """The participants that the directory knows."""

    @property
    def worker_names(self) -> frozenset[str]:
        """The participants that dial the coordinator: their attempts are tasks of workers."""

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt. Never raises for anything that a participant does."""

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        """Says why an attempt would be held now, and when to look again; None if there is room, which is then kept for it."""

    async def room_found(self) -> str:
        """Returns the name of a participant as soon as held attempts may find room there."""


class Directory(Protocol):
    """The names of the participants that there are."""

    @property
    def known(self) -> frozenset[str]:
        """The names that are known here now."""

    async def look_now(self) -> None:
        """Learns the names that were put at other coordinators until now. Returns also if they cannot be learned."""


class Renewal(Protocol):
    """A way to renew the lease."""

    async def renew(self, lease_seconds: float) -> float:
        """Extends the lease. Returns the database's time. Raises Unavailable."""


class OwnershipStore(Protocol):
    """Every method raises Unavailable when the database is away."""

    async def renew(self, lease_seconds: float) -> float:
        """Makes the lease last `lease_seconds` from now. Returns the database's time."""

    def renewing(self) -> AbstractAsyncContextManager[Renewal]:
        """Opens a way to renew the lease from another event loop."""

    async def claim(self, limit: int, passed_over: Collection[str] = ()) -> list[Claim]:
        """Takes over up to `limit` sagas that nobody drives, but no due sagas of the definitions `passed_over`."""

    async def claim_one(self, saga_id: str) -> Claim | None:
        """Takes over one saga that nobody drives. Returns None if it has an owner or is settled."""

    async def owned(self) -> dict[str, Namespace]:
        """All sagas whose row names this coordinator, each with its namespace."""

    async def release(self, saga_ids: list[str], after_seconds: float) -> None:
        """Lets sagas go, to be claimed by anybody after a while."""

    async def wake(self, saga_ids: list[str]) -> None:
        """Makes the sleeping ones among the sagas due, so that any coordinator with room may take them."""

    async def wake_within(self, seconds: float, limit: int) -> None:
        """Makes up to `limit` sagas of the claim group due now that would wake up within `seconds`, the earliest first."""

    async def retire(self) -> int:
        """Lets every saga go at once and ends the lease. Returns the number of sagas."""

    async def backlog(self, limit: int) -> int:
        """The number of sagas that are due and wait for a coordinator with room, counted up to `limit`."""

    async def driver_of(self, saga_id: str) -> Driver | None:
        """The coordinator or claim group that drives a saga; None if there is no such saga."""

    async def groups(self) -> list[ClaimGroup]:
        """All claim groups that have coordinators, or sagas that sleep."""

    async def tidy(self) -> None:
        """Forgets coordinators that ended long ago. If a coordinator was forgotten too soon, makes its sagas due."""


class SagaStore(Protocol):
    """Every method raises Unavailable when the database is away."""

    async def page(self, saga_ids: Sequence[str], after: int = 0) -> LogPage:
        """One page of entries: the first saga's after sequence `after`, then those of the next sagas, as many as fit."""

    async def status(self, saga_id: str) -> SagaStatus:
        """The status of a saga. Raises NotFound."""

    async def place(self, saga_id: str) -> tuple[Namespace, SagaStatus]:
        """The namespace and the status of a saga. Raises NotFound."""

    async def started_by(self, namespace: Namespace, start_key: str) -> tuple[str, bytes] | None:
        """The saga that has the start key, and the digest of the request that started it."""


class EventStore(Protocol):
    """Every method raises Unavailable when the database is away."""

    async def keep(self, namespace: Namespace, event: Event) -> KeptEvent:
        """Makes a published event durable. Raises AlreadyExists if a different event has its identity."""

    async def waiting(self, namespace: Namespace, event_id: str) -> list[str]:
        """The sagas that waited, or had waited, for such an event when it was published, and had not ended."""

    async def matched(self, namespace: Namespace, event_id: str) -> None:
        """Notes that the sagas that waited have got the event, so that no later saga gets it."""

    async def take(
        self, saga_id: str, name: str, correlation: str, look_back_seconds: float = 0.0
    ) -> Event | None:
        """Takes the earliest such event that no other saga has got, from at most `look_back_seconds` before the saga's start."""

    async def tidy(self) -> None:
        """Forgets events of long ago."""


class DefinitionStore(Protocol):
    async def get(self, namespace: Namespace, name: str, version: int) -> RunnableDefinition:
        """A version, even a deprecated one. Version 0 means the version that a start would get, or else the newest.

        Raises NotFound, and Unavailable when the database is away.
        """

    async def for_start(self, namespace: Namespace, name: str, version: int) -> RunnableDefinition:
        """The version that a saga may start with. Raises NotFound, NotPossibleNow for a deprecated one, and Unavailable."""


class MailStore(Protocol):
    """Every method raises Unavailable when the database is away."""

    async def put(self, letter: Letter) -> None:
        """Leaves a letter, and notifies the saga's owner."""

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        """The oldest open letters about sagas that `owner` drives, or that sleep and belong to its claim group.

        They are at most `limit`, and fewer where they are large.
        """

    async def answer(self, letter: Letter, answer: dict[str, Any]) -> None:
        """Answers a letter, if it is still there."""

    async def answer_to(self, letter: Letter) -> dict[str, Any] | None:
        """The answer, once there is one."""

    async def delete(self, letter: Letter) -> None:
        """Deletes a letter, whether it was answered or not."""

    async def delete_abandoned(self) -> None:
        """Deletes old letters whose writers never came back."""


class Listener(Protocol):
    async def listen(self, owner: str, on_letter: Callable[[], None]) -> None:
        """Calls `on_letter` whenever a letter was left for `owner`, until the connection fails. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where one coordinator keeps its sagas, and the identity under which it writes. Each process has a new identity."""

    coordinator_id: str
    log: LogWriter
    ownership: OwnershipStore
    sagas: SagaStore
    definitions: DefinitionStore
    mail: MailStore
    listener: Listener
    events: EventStore
