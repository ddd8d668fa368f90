"""A Postgres with the semantics of the store's statements, and its ways to fail.

Each statement takes effect at one instant, all or none; what varies is when that is, and whether the one who sent it hears of
it. A statement that was sent is not called back by its sender's crash, freeze or timeout.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from proof.simulation.commits import CommitFailed, CommitRefused, CommitTakenBack, FailingCommits
from proof.simulation.loop import SimulatedLoop, node_of_context
from proof.simulation.tables import CheckViolated, EventRow, LogRow, Row, check
from saga_coordinator.saga.definition.model import Definition, RunnableDefinition
from saga_coordinator.saga.machine.entries import EventReceived, SagaStarted, WaitStarted
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.machine.transitions import ENDS, SAGA_TRANSITIONS, SETTLED, SagaStatus
from saga_coordinator.saga.words.act import ActResult
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import NotFound, Unavailable
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.appends import Append, Conflict, Move, WrittenAppend
from saga_coordinator.store.records import Claim, Driver, Event, Letter
from saga_coordinator.store.tables import DEFAULT_GROUP

_T = TypeVar("_T")

_ENDING = {entry_type(kind) for (_, kind), after in SAGA_TRANSITIONS.items() if after in ENDS}
"""The entries by which a saga ends."""

EPOCH = 1_800_000_000.0
"""The database's time at virtual second 0."""


@dataclass(slots=True)
class Rates:
    """How often a statement meets each trouble, as probabilities."""

    refused: float = 0.0
    answer_lost: float = 0.0
    hanging: float = 0.0
    slow: float = 0.0


class SimulatedDatabase:
    """The tables, the clock and the faults. `is_down` and `is_full` are switched from outside."""

    def __init__(
        self, loop: SimulatedLoop, dice: random.Random, faults: Counter[str], commits: FailingCommits
    ) -> None:
        self.loop = loop
        self.rates = Rates()
        self.is_down = False
        self.is_full = False
        self.cut_off: set[str] = set()
        """Coordinators that cannot reach the database now."""
        self.sagas: dict[str, Row] = {}
        self.logs: dict[str, list[LogRow]] = {}
        self.start_keys: dict[str, tuple[str, bytes]] = {}
        self.leases: dict[str, float] = {}
        self.letters: dict[str, tuple[str, bytes, bytes | None]] = {}
        self.definitions: dict[str, RunnableDefinition] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        """The same as they were written."""
        self.workers: dict[str, dict[str, frozenset[str]]] = {}
        """By coordinator, which methods of which participants are performed there."""
        self.events: dict[str, EventRow] = {}
        self.waits: dict[tuple[str, str], dict[str, float]] = {}
        """By an event's name and correlation, the sagas that wait or have waited for it, since when: an index of the log."""
        self.received: set[tuple[str, str]] = set()
        """Sagas and the events that they have received: an index of the log too."""
        self.children: dict[str, list[str]] = {}
        self.acts: dict[str, set[ActResult]] = {}
        self.listeners: list[tuple[str, Callable[[], None], asyncio.Future[None], contextvars.Context]] = []
        self.on_commit: Callable[[str], None] = lambda coordinator_id: None
        """Is told of each commit by a journal, while its answer is still on the way."""
        self.on_impossible: Callable[[str], None] = lambda what: None
        self.faults = faults
        self.commits = commits
        self._dice = dice

    @property
    def now(self) -> float:
        return EPOCH + self.loop.now

    async def ask(self, statement: Callable[[], _T], *, is_write: bool = False) -> _T:
        """Sends a statement from this node. Raises Unavailable, and what the statement raises."""
        node = node_of_context()
        loop, draw, rates = self.loop, self._dice.random, self.rates
        answered: asyncio.Future[_T] = loop.create_future()
        there, back = 0.0002 + 0.001 * draw(), 0.0001 + 0.0005 * draw()
        if is_write:
            there += 0.002 * draw()
        fate = draw()
        if node.id in self.cut_off:
            self.faults["database_unreachable"] += 1
            loop.later(0.05 if fate < 0.5 else 4.0, _fail, answered, "no route to the database")
        elif fate < rates.refused:
            self.faults["statement_refused"] += 1
            loop.later(there, _fail, answered, "the statement was refused")
        elif (fate := fate - rates.refused) < rates.answer_lost:
            self.faults["answer_lost"] += 1
            loop.later(there, self._execute, statement, answered, None, is_write)
            loop.later(there + back, _fail, answered, "the connection broke")
        elif (fate := fate - rates.answer_lost) < rates.hanging:
            self.faults["statement_hung"] += 1
            if draw() < 0.7:
                loop.later(12 * draw(), self._execute, statement, answered, None, is_write)
            loop.later(10.0 * draw(), _fail, answered, "nothing was heard of the database for a while")
        else:
            if fate - rates.hanging < rates.slow:
                self.faults["statement_slow"] += 1
                there += 3 * draw() ** 2
                back += 0.5 * draw() ** 2
            loop.later(there, self._execute, statement, answered, back, is_write)
        return await answered

    def _execute(
        self,
        statement: Callable[[], _T],
        answered: asyncio.Future[_T],
        back: float | None,
        is_write: bool,
    ) -> None:
        if self.is_down or (is_write and self.is_full):
            self.faults["database_down" if self.is_down else "disk_full"] += 1
            why = "the database is down" if self.is_down else "no space left on device"
            self.loop.later(0.01, _fail, answered, why)
            return
        try:
            result = statement()
        except Exception as error:  # noqa: BLE001 - it travels to the one who asked
            if not isinstance(error, Conflict | NotFound | CommitFailed | CommitRefused | CommitTakenBack):
                self.on_impossible(f"{type(error).__name__}: {error}")
            if back is not None:
                self.loop.later(back, _raise, answered, error)
            return
        if back is not None:
            self.loop.later(back, _answer, answered, result)

    # The log and the rows.

    def write(self, written: Sequence[WrittenAppend], coordinator_id: str) -> None:
        """`log_writer`'s statement."""
        appends = [each.append for each in written]
        self._refuse_conflicts(appends)
        logs, sagas = self.logs, self.sagas
        recorded = [self._rows(each, coordinator_id) for each in written]
        moves = [(append, self._moved(append, coordinator_id)) for append in appends]
        self.commits.commit()
        for record in (record for append in appends for record in append.acts):
            self.acts.setdefault(record.act.act_id, set()).add(record.result)
        for append, row in moves:
            if append.start is not None:
                self.start_keys[append.start.start_key] = (append.saga_id, append.start.request_digest)
            if row is not None:
                sagas[append.saga_id] = row
            elif append.entries:
                self.wake([append.saga_id])
        for append, rows in zip(appends, recorded, strict=True):
            if rows:
                log = logs.setdefault(append.saga_id, [])
                if append.sequence != len(log) + 1:
                    self.on_impossible(
                        f"entry {append.sequence} of saga {append.saga_id} leaves a gap after {len(log)}"
                    )
                log += rows
                self._index(append)
        self.on_commit(coordinator_id)

    def _refuse_conflicts(self, appends: Sequence[Append]) -> None:
        """Raises Conflict where a start key or an entry is there already."""
        logs, sagas = self.logs, self.sagas
        lengths: dict[str, int] = {}
        keys: set[str] = set()
        for append in appends:
            if append.start is not None:
                key = append.start.start_key
                if key in self.start_keys or key in keys or append.saga_id in sagas:
                    raise Conflict(f"start key {key}")
                keys.add(key)
            if append.entries:
                length = lengths.get(append.saga_id) or len(logs.get(append.saga_id, ()))
                if append.sequence <= length:
                    raise Conflict(f"entry {append.sequence} of saga {append.saga_id}")
                lengths[append.saga_id] = append.sequence + len(append.entries) - 1

    def _index(self, append: Append) -> None:
        for entry in append.entries:
            if isinstance(entry, SagaStarted) and entry.parent is not None:
                self.children.setdefault(entry.parent.saga_id, []).append(append.saga_id)
            if isinstance(entry, EventReceived):
                self.received.add((append.saga_id, entry.event_id))
            if isinstance(entry, WaitStarted) and entry.event and entry.correlation:
                waits = self.waits.setdefault((entry.event, entry.correlation), {})
                waits.setdefault(append.saga_id, self.now)

    def _rows(self, written: WrittenAppend, coordinator_id: str) -> list[LogRow]:
        rows = []
        for sequence, row in enumerate(written.rows, written.append.sequence):
            kind, step, operation, attempt, facts, payload, *_ = row
            if (sequence == 1) != (kind == "saga_started"):
                raise CheckViolated("log_begins_with_start")
            for part in (facts, payload):
                if part is not None and part != canonical_bytes(orjson.loads(part)):
                    self.on_impossible(
                        f"entry {sequence} of saga {written.append.saga_id} is not canonical: {part!r}"
                    )
            said = (kind, step, operation, attempt, facts, payload)
            rows.append(LogRow(*said, self.now, coordinator_id))
        return rows

    def _moved(self, append: Append, coordinator_id: str) -> Row | None:
        move, start = append.move, append.start
        if move is None:
            return None
        owner: str | None = coordinator_id
        if start is None:
            old = self.sagas.get(append.saga_id)
            if old is None or not (old.owner == coordinator_id or _may_move_settled(old.status, move)):
                return None
            known = (old.start_key, old.definition, old.version, old.deadline_at)
        else:
            known = (start.start_key, start.definition, start.version, start.deadline_at)
        if not move.is_owned:
            owner = None
        row = Row(append.saga_id, *known, move.status, _failure(move), move.remaining, owner, move.wake_at)
        check(row)
        return row

    # Leases and claims.

    def renew(self, coordinator_id: str, lease_seconds: float) -> float:
        self.leases[coordinator_id] = self.now + lease_seconds
        return self.now

    def claim_orphaned(self, coordinator_id: str, limit: int, passed_over: Collection[str]) -> list[Claim]:
        now = self.now
        dead = {owner for owner, until in self.leases.items() if until < now}
        orphans = sorted(
            (row.owner, row.saga_id)
            for row in self.sagas.values()
            if row.owner is not None and row.owner in dead and row.definition not in passed_over
        )
        return [
            self._claim(self.sagas[saga_id], coordinator_id)
            for saga_id in self._unlocked([saga_id for _, saga_id in orphans], limit)
        ]

    def claim_due(self, coordinator_id: str, limit: int, passed_over: Collection[str]) -> list[Claim]:
        due = self._due(passed_over)
        due.sort()
        return [
            self._claim(self.sagas[saga_id], coordinator_id)
            for saga_id in self._unlocked([saga_id for _, saga_id in due], limit)
        ]

    def _due(self, passed_over: Collection[str]) -> list[tuple[float, str]]:
        now = self.now
        return [
            (row.wake_at, row.saga_id)
            for row in self.sagas.values()
            if row.wake_at is not None
            and row.owner is None
            and row.wake_at <= now
            and row.definition not in passed_over
        ]

    def _unlocked(self, saga_ids: list[str], limit: int) -> list[str]:
        """SKIP LOCKED: now and then somebody else is just looking at a row."""
        return [saga_id for saga_id in saga_ids if self._dice.random() > 0.05][:limit]

    def claim_one(self, coordinator_id: str, saga_id: str) -> Claim | None:
        row = self.sagas.get(saga_id)
        if row is None or row.status in SETTLED:
            return None
        if row.owner is not None and self.leases.get(row.owner, self.now) >= self.now:
            return None
        return self._claim(row, coordinator_id)

    def _claim(self, row: Row, coordinator_id: str) -> Claim:
        claim = Claim(row.saga_id, DEFAULT_NAMESPACE, row.owner)
        row.owner, row.wake_at = coordinator_id, None
        check(row)
        return claim

    def driver_of(self, saga_id: str) -> Driver | None:
        row = self.sagas.get(saga_id)
        living = {owner for owner, until in self.leases.items() if until >= self.now}
        return None if row is None else Driver(row.owner, DEFAULT_GROUP, row.owner in living, bool(living))

    def owned(self, coordinator_id: str) -> dict[str, Namespace]:
        return {row.saga_id: DEFAULT_NAMESPACE for row in self.sagas.values() if row.owner == coordinator_id}

    def release(self, coordinator_id: str, saga_ids: Collection[str], after_seconds: float) -> None:
        for saga_id in saga_ids:
            row = self.sagas.get(saga_id)
            if row is not None and row.owner == coordinator_id:
                row.owner, row.wake_at = None, self.now + after_seconds
                check(row)

    def wake(self, saga_ids: Collection[str]) -> None:
        for saga_id in saga_ids:
            row = self.sagas.get(saga_id)
            if row is not None and row.owner is None and row.wake_at is not None:
                row.wake_at = min(row.wake_at, self.now)

    def wake_within(self, seconds: float, limit: int) -> None:
        sleeping = sorted(
            (row.wake_at, row.saga_id)
            for row in self.sagas.values()
            if row.owner is None and row.wake_at is not None and self.now < row.wake_at <= self.now + seconds
        )
        self.wake([saga_id for _, saga_id in sleeping[:limit]])

    def retire(self, coordinator_id: str) -> int:
        mine = self.owned(coordinator_id)
        self.release(coordinator_id, mine, 0.0)
        self.leases[coordinator_id] = self.now
        return len(mine)

    def backlog(self, limit: int) -> int:
        return min(limit, len(self._due(())))

    def children_of(self, saga_id: str) -> list[Row]:
        """The sagas that this one's steps run; an index of the logs' first entries."""
        return [self.sagas[child] for child in self.children.get(saga_id, ())]

    # Events.

    def insert_event(self, event: Event) -> bool:
        """Whether it is new."""
        if event.event_id in self.events:
            return False
        keep_seconds = EVENT_KEPT_SECONDS if event.keep_seconds is None else event.keep_seconds
        self.events[event.event_id] = EventRow(event, self.now, self.now + keep_seconds)
        return True

    def waiting(self, event_id: str) -> list[str]:
        kept = self.events[event_id]
        waits = self.waits.get((kept.event.name, kept.event.correlation), {})
        return sorted(
            saga_id
            for saga_id, began_at in waits.items()
            if began_at <= kept.published_at <= self._ended_at(saga_id)
        )

    def _ended_at(self, saga_id: str) -> float:
        if self.sagas[saga_id].status not in ENDS:
            return float("inf")
        return next(row.recorded_at for row in reversed(self.logs[saga_id]) if row.type in _ENDING)

    def match_event(self, event_id: str) -> None:
        kept = self.events.get(event_id)
        if kept is not None and kept.taken_at is None:
            kept.taken_at = self.now

    def take_event(self, saga_id: str, name: str, correlation: str, look_back_seconds: float) -> Event | None:
        since = self.logs[saga_id][0].recorded_at - look_back_seconds
        waits_since = self.waits.get((name, correlation), {}).get(saga_id, math.inf)
        found = [
            kept
            for kept in self.events.values()
            if (kept.event.name, kept.event.correlation) == (name, correlation)
            and kept.published_at >= since
            and waits_since < kept.expires_at
            and (kept.taken_at is None or kept.taken_by == saga_id or self._is_left(kept))
            and (saga_id, kept.event.event_id) not in self.received
        ]
        if not found:
            return None
        kept = min(
            found, key=lambda each: (each.taken_at is not None, each.published_at, each.event.event_id)
        )
        kept.taken_at = self.now if kept.taken_at is None else kept.taken_at
        kept.taken_by = saga_id
        return kept.event

    def _is_left(self, kept: EventRow) -> bool:
        """Whether it was taken for a saga that ended before it was told of it."""
        by = kept.taken_by
        return (
            by is not None
            and self.sagas[by].status in SETTLED
            and not any(event_id == kept.event.event_id for _, event_id in self.received)
        )

    # Letters.

    def put(self, letter: Letter) -> None:
        self.letters[letter.letter_id] = (letter.saga_id, orjson.dumps(letter.body), None)
        row = self.sagas.get(letter.saga_id)
        for owner, on_letter, ended, context in self.listeners:
            if row is not None and owner == row.owner and not ended.done() and self._dice.random() < 0.9:
                self.loop.call_later(0.001 * self._dice.random(), on_letter, context=context.copy())

    def unanswered(self, owner: str, limit: int) -> list[Letter]:
        return [
            Letter(saga_id, letter_id, orjson.loads(asked))
            for letter_id, (saga_id, asked, answer) in self.letters.items()
            if answer is None and saga_id in self.sagas and self._may_serve(owner, self.sagas[saga_id])
        ][:limit]

    @staticmethod
    def _may_serve(coordinator_id: str, row: Row) -> bool:
        return row.owner == coordinator_id or (row.owner is None and row.wake_at is not None)

    def answer(self, letter: Letter, answer: dict[str, Any]) -> None:
        if letter.letter_id in self.letters:
            saga_id, asked, _ = self.letters[letter.letter_id]
            self.letters[letter.letter_id] = (saga_id, asked, orjson.dumps(answer))

    def break_listeners(self) -> None:
        """All connections that listen are cut."""
        listeners, self.listeners = self.listeners, []
        for _, _, ended, _ in listeners:
            _fail(ended, "the connection broke")


def _fail(answered: asyncio.Future[Any], why: str) -> None:
    _raise(answered, Unavailable(Reason.DATABASE_UNAVAILABLE, why))


def _raise(answered: asyncio.Future[Any], error: Exception) -> None:
    if not answered.done():
        answered.set_exception(error)
        answered.exception()  # whoever asked may be gone


def _answer(answered: asyncio.Future[_T], result: _T) -> None:
    if not answered.done():
        answered.set_result(result)


def _failure(move: Move) -> dict[str, str] | None:
    failure = move.failure
    return None if failure is None else {"code": failure.code, "message": failure.message}


def _may_move_settled(before: SagaStatus, move: Move) -> bool:
    """Whether a row that nobody owns is moved by somebody who knows where it stands."""
    return before is move.settled_as


def register(database: SimulatedDatabase, definition: Definition, spec: dict[str, Any]) -> None:
    """Makes a definition known, as version 1."""
    database.definitions[definition.name] = RunnableDefinition(1, definition)
    database.specs[definition.name] = spec
