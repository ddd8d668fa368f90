"""What the directory needs of the database: the participants that were put by the API, and what operators decided of breakers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.namespace import Namespace


class StoredParticipant(Protocol):
    """A participant in the database; `spec` and `descriptor_set` are None where the revision was known."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def spec(self) -> dict[str, Any] | None: ...
    @property
    def descriptor_set(self) -> bytes | None: ...


class PutResult(Protocol):
    """What became of a participant that was put; `created` tells whether there was none of its name."""

    @property
    def revision(self) -> str: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def created(self) -> bool: ...


class BreakerSetting(Protocol):
    """What an operator has decided; `control` is a value of `Forced`."""

    @property
    def participant(self) -> str: ...
    @property
    def control(self) -> str: ...
    @property
    def requested_by(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def set_at(self) -> datetime: ...


class Register(Protocol):
    """The database's part. Every method raises Unavailable when the database is away."""

    async def read(
        self, namespace: Namespace, known: Collection[str] = ()
    ) -> Sequence[StoredParticipant]: ...
    async def put(
        self, act: Act, name: str, spec: dict[str, Any], descriptor_set: bytes | None
    ) -> PutResult: ...
    async def delete(self, act: Act, name: str) -> bool: ...
    async def breakers(self, namespace: Namespace) -> Sequence[BreakerSetting]: ...
    async def set_breaker(self, act: Act, participant: str, control: str) -> BreakerSetting: ...
