"""The directory in use: what a change costs does not grow with what is there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory import put_participants as module
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.participants.live_directory import LiveDirectory
from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.errors import NotFound
from saga_coordinator.saga.words.namespace import Namespace
from tests.acts import an_act

AT = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Row:
    name: str
    revision: str
    spec: dict[str, Any] | None
    descriptor_set: bytes | None = None
    updated_at: datetime = AT
    created: bool = True


@dataclass
class Register:
    """Stands for the database; counts the rows that it is asked for."""

    rows: dict[str, Row] = field(default_factory=dict)
    rows_read: int = 0

    async def read(self, namespace: Namespace, known: Collection[str] = ()) -> list[Row]:
        self.rows_read += len(self.rows)
        return [
            Row(row.name, row.revision, None if row.revision in known else row.spec)
            for row in self.rows.values()
        ]

    async def put(self, act: Act, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> Row:
        created = name not in self.rows
        self.rows[name] = Row(name, f"{name} {len(self.rows)} {spec}", spec, descriptor_set, created=created)
        return self.rows[name]

    async def delete(self, act: Act, name: str) -> bool:
        return self.rows.pop(name, None) is not None

    async def breakers(self, namespace: Namespace) -> list[Any]:
        return []

    async def set_breaker(self, act: Act, participant: str, control: str) -> Any:
        raise NotImplementedError


@pytest.fixture
def register() -> Register:
    return Register()


@pytest.fixture
def participants() -> Attempts:
    return Attempts(Directory.empty(), payload_bytes_max=1024)


@pytest.fixture
def directory(participants: Attempts, register: Register) -> LiveDirectory:
    return LiveDirectory(participants, Directory.empty(), register)


async def put(directory: LiveDirectory, name: str, target: str) -> bool:
    spec = {"target": target}
    return await directory.put(an_act(), await directory.reader.checked(name, spec, None), spec, None)


async def test_a_put_reads_and_takes_apart_nothing_but_itself(
    directory: LiveDirectory, participants: Attempts, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_apart: list[str] = []
    read_put = module.read_put

    def counted(name: str, *more: Any) -> Any:
        taken_apart.append(name)
        return read_put(name, *more)

    monkeypatch.setattr(module, "read_put", counted)
    monkeypatch.setattr(participants, "replace", None)  # which looks at all of them
    for number in range(200):
        assert await put(directory, f"p{number}", f"127.0.0.1:{number + 1}")
    assert taken_apart == [f"p{number}" for number in range(200)]
    assert register.rows_read == 0
    assert participants.names == {f"p{number}" for number in range(200)}
    assert len(directory.names) == 200


async def test_what_was_put_is_in_use_at_once_and_what_was_deleted_is_not(
    directory: LiveDirectory, participants: Attempts
) -> None:
    assert await put(directory, "shop", "127.0.0.1:1")
    assert not await put(directory, "shop", "127.0.0.1:2")
    assert directory.get("shop").participant.target == "127.0.0.1:2"
    gate = participants.gates.of("shop")
    assert gate is not None
    await directory.delete(an_act(), "shop")
    assert (directory.names, participants.names) == ([], frozenset())
    assert participants.gates.of("shop") is None
    with pytest.raises(NotFound):
        await directory.delete(an_act(), "shop")


async def test_a_look_at_the_database_finds_what_was_put_here_as_it_is(
    directory: LiveDirectory, participants: Attempts, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(directory, "shop", "127.0.0.1:1")
    monkeypatch.setattr(participants, "replace", None)  # nothing has changed
    await directory._refresh()
    del register.rows["shop"]
    monkeypatch.undo()
    await directory._refresh()
    assert participants.names == frozenset()


async def test_who_looks_now_knows_what_was_put_elsewhere_and_shares_the_look(
    directory: LiveDirectory, participants: Attempts, register: Register
) -> None:
    await register.put(an_act(), "shop", {"target": "127.0.0.1:1"}, None)
    await asyncio.gather(*(directory.look_now() for _ in range(20)))
    assert participants.names == {"shop"}
    assert register.rows_read == 1


async def test_a_look_that_began_before_is_not_relied_on(
    directory: LiveDirectory, participants: Attempts, register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_read, may_answer = asyncio.Event(), asyncio.Event()
    read = register.read

    async def read_slowly(namespace: Namespace, known: Collection[str] = ()) -> list[Row]:
        rows = await read(namespace, known)
        has_read.set()
        await may_answer.wait()
        return rows

    monkeypatch.setattr(register, "read", read_slowly)
    before = asyncio.create_task(directory.look_now())
    await has_read.wait()
    await register.put(an_act(), "shop", {"target": "127.0.0.1:1"}, None)
    after = asyncio.create_task(directory.look_now())
    may_answer.set()
    await asyncio.gather(before, after)
    assert participants.names == {"shop"}
