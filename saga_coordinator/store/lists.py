"""Lists: read on connections of their own and made into answers in threads of their own, so that no list delays a saga."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import Row, Select, Text, case, cast, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.lifecycle import Service
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.act import SubjectKind
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.acts import ListedAct, listed_act
from saga_coordinator.store.database import Database
from saga_coordinator.store.definitions import IS_DEFAULT, IS_LIVE
from saga_coordinator.store.filtering import saga_conditions
from saga_coordinator.store.groups import GROUPS, GroupStanding, standings
from saga_coordinator.store.pages import PAGE_BYTES_MAX, Page, bounded, page_of, shown, text_bytes
from saga_coordinator.store.sagas import INPUT_BYTES, OF_SAGA, PARKING, SagaFilter, SagaRecord, record_of
from saga_coordinator.store.stored_form import EVENT_BYTES, EVENT_CONTENT
from saga_coordinator.store.tables import declared_steps, definitions, events, operator_acts, sagas
from saga_coordinator.turns import Turns

AT_ONCE = 2
"""Lists that are read at the same time, each on a connection of its own: with what they make of it, some 50 MB."""
WAITING_MAX = 32
SECONDS_MAX = 60.0

_T = TypeVar("_T")
_Item = TypeVar("_Item")
_Read = TypeVar("_Read")

_MEASURES_OF_SAGA = [
    INPUT_BYTES,
    text_bytes(sagas.c.labels),
    func.octet_length(sagas.c.cause),
    text_bytes(sagas.c.failure),
    text_bytes(sagas.c.remaining),
    func.octet_length(PARKING),
]
_OF_EVENT = [events.c[name] for name in ("event_id", "name", "correlation", "published_at", "taken_at")]
_WHAT_BECAME_OF_IT = [
    cast(events.c.taken_by, Text).label("taken_by"),
    case((events.c.taken_at.is_(None) & (events.c.expires_at > func.now()), events.c.expires_at)).label(
        "kept_until"
    ),
    case((EVENT_BYTES <= PAGE_BYTES_MAX, EVENT_CONTENT)).label("content"),
    (EVENT_BYTES > 0).label("has_payload"),
]
_OF_DEFINITION = [column for column in definitions.c if column.name != "spec"]


@dataclass(frozen=True, slots=True)
class DeclaredStep:
    """A step that a participant offers: its canonical JSON form, and the version of the program that declared it."""

    name: str
    version: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The filter of a list of published events; an empty text stands for any."""

    is_untaken: bool = False
    name: str = ""
    correlation: str = ""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event and what became of it, as in `saga.v1.PublishedEvent`."""

    event_id: str
    name: str
    correlation: str
    payload: Any
    published_at: datetime
    kept_until: datetime | None
    taken_at: datetime | None
    taken_by: str | None
    is_payload_omitted: bool = False


class Lists(Service):
    """Reads lists. Each method calls `make` in a thread, which turns the page into an answer, and returns the answer.

    Raises Unavailable when the database is away, and Overloaded when too many lists are asked for.
    """

    def __init__(self, database: Database) -> None:
        """Takes a `database` for lists alone, with `AT_ONCE` connections."""
        self._database = database
        self._turns = Turns("lists", at_once=AT_ONCE, waiting_max=WAITING_MAX, seconds_max=SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Lets the connections go."""
        await self._database.stop()

    async def read(
        self, read: Callable[[AsyncConnection], Awaitable[_Read]], make: Callable[[_Read], _T]
    ) -> _T:
        """Reads on a connection for lists, and calls `make` as the other methods do."""

        async def on_connection() -> _Read:
            async with self._database.connection() as connection:
                return await read(connection)

        return await self._turns.run(on_connection, make)

    async def sagas(
        self,
        namespace: Namespace,
        wanted: SagaFilter,
        before_saga_id: str | None,
        limit: int,
        make: Callable[[Page[SagaRecord]], _T],
    ) -> _T:
        """Sagas, newest first: those that sort before `before_saga_id`, or all from the newest on."""
        conditions = saga_conditions(namespace, wanted)
        keys = select(sagas.c.saga_id).where(*conditions).order_by(sagas.c.saga_id.desc())
        if before_saga_id is not None:
            keys = keys.where(sagas.c.saga_id < before_saga_id)
        query = bounded(keys, sagas, _MEASURES_OF_SAGA, OF_SAGA, limit)
        return await self._answer(query, record_of, make)

    async def definitions(
        self,
        namespace: Namespace,
        after_name: str,
        limit: int,
        make: Callable[[Page[RegisteredDefinition]], _T],
    ) -> _T:
        """The newest version of each definition whose name sorts behind `after_name`, by name."""
        keys = (
            select(
                definitions.c.namespace, definitions.c.name, func.max(definitions.c.version).label("version")
            )
            .where(definitions.c.namespace == namespace, definitions.c.name > after_name, IS_LIVE)
            .group_by(definitions.c.namespace, definitions.c.name)
            .order_by(definitions.c.name)
        )
        return await self._answer(_definitions(keys, limit), _listed_definition, make)

    async def versions(
        self,
        namespace: Namespace,
        name: str,
        before_version: int | None,
        limit: int,
        make: Callable[[Page[RegisteredDefinition]], _T],
    ) -> _T:
        """Versions of one definition, newest first, below `before_version` if that is given. An empty list is no error."""
        keys = (
            select(definitions.c.namespace, definitions.c.name, definitions.c.version)
            .where(definitions.c.namespace == namespace, definitions.c.name == name, IS_LIVE)
            .order_by(definitions.c.version.desc())
        )
        if before_version is not None:
            keys = keys.where(definitions.c.version < before_version)
        return await self._answer(_definitions(keys, limit), _listed_definition, make)

    async def groups(self, after_name: str, limit: int, make: Callable[[Page[GroupStanding]], _T]) -> _T:
        """The claim groups whose name sorts behind `after_name`, by name."""

        async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
            return (await connection.execute(GROUPS, {"after": after_name, "limit": limit + 1})).all()

        return await self.read(read, lambda rows: make(Page(standings(rows[:limit]), len(rows) > limit)))

    async def events(
        self,
        namespace: Namespace,
        wanted: EventFilter,
        before: tuple[datetime, str] | None,
        limit: int,
        make: Callable[[Page[PublishedEvent]], _T],
    ) -> _T:
        """Events, newest first: those published before `before` (an instant and an event's identity), or from the newest on."""
        table = events
        keys = (
            select(table.c.namespace, table.c.published_at, table.c.event_id)
            .where(table.c.namespace == namespace)
            .order_by(table.c.published_at.desc(), table.c.event_id.desc())
        )
        if wanted.is_untaken:
            keys = keys.where(table.c.taken_at.is_(None))
        if wanted.name:
            keys = keys.where(table.c.name == wanted.name)
        if wanted.correlation:
            keys = keys.where(table.c.correlation == wanted.correlation)
        if before is not None:
            keys = keys.where(tuple_(table.c.published_at, table.c.event_id) < tuple_(*before))
        columns = [*_OF_EVENT, *_WHAT_BECAME_OF_IT]
        return await self._answer(bounded(keys, table, [EVENT_BYTES], columns, limit), _published_event, make)

    async def declared_steps(
        self,
        namespace: Namespace,
        participant: str,
        after_name: str,
        limit: int,
        make: Callable[[Page[DeclaredStep]], _T],
    ) -> _T:
        """The steps that a participant declared last, by name; none if it never declared any."""
        table = declared_steps
        keys = (
            select(table.c.namespace, table.c.participant, table.c.name)
            .where(
                table.c.namespace == namespace,
                table.c.participant == participant,
                table.c.name > after_name,
            )
            .order_by(table.c.name)
        )
        columns = [table.c.name, table.c.version, shown(table.c.spec).label("spec")]
        return await self._answer(
            bounded(keys, table, [text_bytes(table.c.spec)], columns, limit), _declared_step, make
        )

    async def acts(
        self,
        namespace: Namespace,
        kind: SubjectKind | None,
        subject: str,
        before: tuple[str, str] | None,
        limit: int,
        make: Callable[[Page[ListedAct]], _T],
    ) -> _T:
        """Lists the newest first: those that sort before `before`, an act's identity and result, or from the newest on.

        `kind` None and an empty `subject` stand for any.
        """
        table = operator_acts
        keys = (
            select(table.c.namespace, table.c.act_id, table.c.result)
            .where(table.c.namespace == namespace)
            .order_by(table.c.act_id.desc(), table.c.result.desc())
        )
        if kind is not None:
            keys = keys.where(table.c.subject_kind == kind.value)
        if subject:
            keys = keys.where(table.c.subject == subject)
        if before is not None:
            act_id = literal(before[0], table.c.act_id.type)
            keys = keys.where(tuple_(table.c.act_id, table.c.result) < tuple_(act_id, before[1]))
        measures = [func.octet_length(table.c[name]) for name in ("subject", "declared_by", "reason", "why")]
        return await self._answer(bounded(keys, table, measures, list(table.c), limit), listed_act, make)

    async def _answer(
        self, query: Select[Any], item: Callable[[Row[Any]], _Item], make: Callable[[Page[_Item]], _T]
    ) -> _T:
        async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
            rows: Sequence[Row[Any]] = (await connection.execute(query)).all()
            return rows

        return await self.read(read, lambda rows: make(page_of(rows, list(map(item, rows)))))


def _published_event(row: Row[Any]) -> PublishedEvent:
    return PublishedEvent(
        row.event_id,
        row.name,
        row.correlation,
        None if row.content is None else orjson.loads(row.content),
        row.published_at,
        row.kept_until,
        row.taken_at,
        row.taken_by,
        is_payload_omitted=bool(row.has_payload) and row.content is None,
    )


def _declared_step(row: Row[Any]) -> DeclaredStep:
    spec = {"name": row.name} if row.spec is None else orjson.loads(row.spec)
    return DeclaredStep(row.name, row.version, spec)


def _definitions(keys: Select[Any], limit: int) -> Select[Any]:
    columns = [*_OF_DEFINITION, shown(definitions.c.spec).label("spec"), IS_DEFAULT]
    return bounded(keys, definitions, [text_bytes(definitions.c.spec)], columns, limit)


def _listed_definition(row: Row[Any]) -> RegisteredDefinition:
    spec = {"name": row.name} if row.spec is None else orjson.loads(row.spec)
    return RegisteredDefinition(
        row.name, row.version, row.digest, spec, row.registered_at, row.deprecated, row.is_default
    )
