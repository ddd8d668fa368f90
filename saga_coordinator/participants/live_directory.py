"""The directory in use: the participants of the file and, under other names, the participants put by the API.

If both have a name, the file's participant is used: no call redirects what was deployed with an environment. The database is
looked at every half second, so that no coordinator needs a restart for a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import structlog

from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import (
    Directory,
    Participant,
    name_problem,
    read_participant,
)
from saga_coordinator.participants.directory.descriptors import DescriptorSet, NotDescribed
from saga_coordinator.participants.directory.files import CallersFiles
from saga_coordinator.retrying import Pauses, retried
from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.errors import Fault, InvalidRequest, NotFound, NotPossibleNow, Unavailable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.turns import Turns

LOOK_SECONDS = 0.5
"""How often it is looked for changes that were made through other coordinators."""

FILES_SECONDS_MAX = 5.0
"""A participant whose files take longer to read is on a mount that hangs."""

LOOK_SECONDS_MAX = 60.0
"""A look that takes longer hangs, and health says so."""

DESCRIPTOR_SET_BYTES_MAX = 4 * 1024 * 1024

_TLS_FILES = ("ca_file", "cert_file", "key_file")

_log = structlog.get_logger(__name__)


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


class Put(Protocol):
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
    async def put(self, act: Act, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> Put: ...
    async def delete(self, act: Act, name: str) -> bool: ...
    async def breakers(self, namespace: Namespace) -> Sequence[BreakerSetting]: ...
    async def set_breaker(self, act: Act, participant: str, control: str) -> BreakerSetting: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A participant that is in use. `spec` and `updated_at` are None for one from the file."""

    participant: Participant
    spec: Mapping[str, Any] | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _PutParticipant:
    """One revision of a participant that was put by the API. `entry` is None if this coordinator cannot use it."""

    revision: str
    entry: Entry | None


class LiveDirectory(Service):
    """Keeps `participants` in line with the file and with the default namespace in the database. Used from one event loop."""

    def __init__(
        self,
        participants: Attempts,
        file: Directory,
        register: Register,
        files: CallersFiles = CallersFiles(None),  # noqa: B008  # immutable
    ) -> None:
        """Takes in `files` the files that a participant put by the API may name."""
        self._participants = participants
        self._files = files
        self._turns = Turns(
            "readings of participants' files", at_once=4, waiting_max=32, seconds_max=FILES_SECONDS_MAX
        )
        self._is_slow: set[str] = set()
        self._file = file
        self._register = register
        self._put: dict[str, _PutParticipant] = {}
        self._settings: dict[str, BreakerSetting] = {}
        self._one_at_a_time = asyncio.Lock()
        self._background = Background()
        self._looks = Background()
        self._next_look: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the participants from the database, if that can be reached, and goes on looking for changes."""
        try:
            await self._look_once()
        except Exception as error:  # noqa: BLE001  # a defect, which is no reason not to serve those of the file
            _log.exception("directory_not_used", exc_info=error)
        self._background.keep("the directory", self._look, turn_seconds_max=LOOK_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops looking for changes."""
        await self._background.stop()
        await self._looks.stop()

    @property
    def known(self) -> frozenset[str]:
        """The names of the participants that are in use."""
        return self._participants.names

    async def look_now(self) -> None:
        """Returns once the directory knows all that the database held at the call, or that the database cannot be reached.

        All who ask before a look at the database begins share that look.
        """
        if self._next_look is None:
            self._next_look = self._looks.begin("look at the directory", self._look_anew())
        await asyncio.shield(self._next_look)

    async def _look_anew(self) -> None:
        async with self._one_at_a_time:  # a look that is under way may have read too early
            self._next_look = None
        await self._look_once()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep the directory from hearing of changes."""
        return self._background.problems

    def use_file(self, file: Directory) -> None:
        """Uses this file instead of the one before."""
        self._file = file
        self._use()

    @property
    def problems_with_files(self) -> Iterator[str]:
        """The problems that keep participants from being put."""
        return self._turns.problems

    async def check(self, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> Participant:
        """Checks a participant, including its TLS files, before it is put.

        Raises:
            InvalidRequest: with every fault.
            Unavailable: the participant's files take too long to read.
        """
        faults: list[Fault] = []
        participant = await self._turns.in_thread(
            read_put, name, spec, descriptor_set, self._files, "participant", faults
        )
        if faults or participant is None:
            raise InvalidRequest(faults)
        return participant

    @property
    def names(self) -> list[str]:
        """The names of all participants in use, in order."""
        return sorted({*self._file.names, *(name for name, put in self._put.items() if put.entry)})

    def get(self, name: str) -> Entry:
        """Raises NotFound."""
        participant = self._file.get(name)
        if participant is not None:
            return Entry(participant)
        put = self._put.get(name)
        if put is None or put.entry is None:
            raise NotFound(
                Reason.NO_SUCH_PARTICIPANT,
                f"no participant `{name}` is in the participants file or was put into the directory",
                participant=name,
            )
        return put.entry

    def setting(self, name: str) -> BreakerSetting | None:
        """The last decision of an operator about the participant's breaker."""
        return self._settings.get(name)

    async def put(
        self, act: Act, participant: Participant, spec: dict[str, Any], descriptor_set: bytes | None
    ) -> bool:
        """Adds a participant, as `check` has read it, or replaces it; returns whether there was none. Records the act.

        Raises:
            NotPossibleNow: a participant of the file has the name.
            QuotaReached: there are as many, or as many bytes of descriptor sets, as there may be.
            Unavailable: the database is away.
        """
        name = participant.name
        if self._file.get(name) is not None:
            raise NotPossibleNow(
                Reason.PARTICIPANT_IN_FILE,
                f"the participants file {self._file.path} has `{name}`, and has precedence: change it there, or remove the name "
                "from the file first",
                participant=name,
            )
        async with self._one_at_a_time:
            put = await self._register.put(act, name, spec, descriptor_set)
            self._put[name] = _PutParticipant(put.revision, Entry(participant, spec, put.updated_at))
            self._use_one(name)
        _log.info("participant_put", participant=name, created=put.created)
        return put.created

    async def delete(self, act: Act, name: str) -> None:
        """Forgets a participant that was put, and records the act.

        Raises:
            NotFound: no participant of that name was put.
            Unavailable: the database is away.
        """
        async with self._one_at_a_time:
            is_gone = await self._register.delete(act, name)
            if self._put.pop(name, None) is not None:
                self._use_one(name)
        if not is_gone:
            raise NotFound(
                Reason.NO_SUCH_PARTICIPANT,
                f"no participant `{name}` was put into the directory; to delete a participant of the participants file, "
                "change the file",
                participant=name,
            )
        _log.info("participant_deleted", participant=name)

    async def set_breaker(self, act: Act, name: str, control: Forced) -> BreakerSetting:
        """Forces a breaker everywhere, or leaves it to itself again, and records the act. Raises Unavailable."""
        setting = await self._register.set_breaker(act, name, control.value)
        _log.warning(
            "breaker_set",
            participant=name,
            control=control.value,
            requested_by=act.declared_by,
            reason=act.reason,
        )
        await self._refresh()
        return setting

    async def _look(self, kept: Kept) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await retried(
                partial(self._look_kept, kept),
                Unavailable,
                Pauses(LOOK_SECONDS, LOOK_SECONDS),
                tell=_tell_not_read,
            )

    async def _look_once(self) -> None:
        try:
            await self._refresh()
        except Unavailable as error:
            _tell_not_read(error)

    async def _look_kept(self, kept: Kept) -> None:
        try:
            await self._refresh()
        except Unavailable:
            kept.turned()  # a database that is away is no fault of the watch
            raise
        kept.turned()

    async def _refresh(self) -> None:
        async with self._one_at_a_time:
            known = [put.revision for put in self._put.values()]
            stored = await self._register.read(DEFAULT_NAMESPACE, known)
            settings = {each.participant: each for each in await self._register.breakers(DEFAULT_NAMESPACE)}
            put = {each.name: self._put.get(each.name) for each in stored}
            changed = [each for each in stored if each.spec is not None]
            for each in changed:
                put[each.name] = await self._read_soon(each)
            gone = self._put.keys() - put.keys()
            self._put = {name: known for name, known in put.items() if known is not None}
            if settings != self._settings:
                self._settings = settings
                forced = {name: Forced(each.control) for name, each in settings.items()}
                self._participants.gates.force(
                    {name: to for name, to in forced.items() if to is not Forced.AUTOMATIC}
                )
            if changed or gone:
                self._use()

    async def _read_soon(self, stored: StoredParticipant) -> _PutParticipant | None:
        """Reads a row for this host. If its files take too long, the entry stays as before and the next look tries again."""
        try:
            read = await self._turns.in_thread(self._read, stored)
        except Unavailable as error:
            if stored.name not in self._is_slow:
                _log.error("participant_not_read", participant=stored.name, reason=str(error))
                self._is_slow.add(stored.name)
            return self._put.get(stored.name)
        self._is_slow.discard(stored.name)
        return read

    def _read(self, stored: StoredParticipant) -> _PutParticipant:
        """Reads a row for this host; returns the entry from before if the new one cannot be used here."""
        faults: list[Fault] = []
        spec = stored.spec or {}
        participant = read_put(stored.name, spec, stored.descriptor_set, self._files, "participant", faults)
        if faults or participant is None:
            _log.error(
                "participant_not_used", participant=stored.name, faults=[str(fault) for fault in faults]
            )
            before = self._put.get(stored.name)
            return _PutParticipant(stored.revision, before.entry if before else None)
        return _PutParticipant(stored.revision, Entry(participant, spec, stored.updated_at))

    def _use_one(self, name: str) -> None:
        """Does what `_use` does, if only that participant was put or deleted."""
        put = self._put.get(name)
        participant = self._file.get(name) or (put.entry.participant if put and put.entry else None)
        self._participants.change(name, participant)

    def _use(self) -> None:
        """Puts the participants to use without interrupting any call: a call in flight ends at the address where it began."""
        known = {name: put.entry.participant for name, put in self._put.items() if put.entry is not None}
        directory = Directory(self._file.path, MappingProxyType({**known, **self._file.participants}))
        self._participants.replace(directory)


def read_put(
    name: str,
    spec: Mapping[str, Any],
    descriptor_set: bytes | None,
    files: CallersFiles,
    place: str,
    faults: list[Fault],
) -> Participant | None:
    """Reads a participant as the API takes it: as in a directory file, but with no path whose meaning depends on the host."""
    if problem := name_problem(name):
        faults.append(Fault(f"{place}.name", problem))
    target, tls = str(spec.get("target", "")), spec.get("tls")
    if target.startswith("unix:") and not target.removeprefix("unix:").startswith("/"):
        faults.append(Fault(f"{place}.target", f"`{target[:200]}` must name the socket by an absolute path"))
        return None
    if isinstance(tls, Mapping):
        relative = {field for field in _TLS_FILES if not str(tls.get(field, "/")).startswith("/")}
        faults.extend(
            Fault(f"{place}.tls.{field}", f"`{str(tls[field])[:200]}` must be an absolute path")
            for field in sorted(relative)
        )
        spec = {**spec, "tls": {field: tls[field] for field in tls if field not in relative}}
    participant = read_participant(name, spec, place, files, faults)
    if descriptor_set and participant is not None:
        return _described(participant, descriptor_set, place, faults)
    return participant


def _described(participant: Participant, content: bytes, place: str, faults: list[Fault]) -> Participant:
    described: DescriptorSet | None = None
    if participant.is_worker:
        faults.append(
            Fault(f"{place}.descriptor_set", "must not be given for a worker, which takes any JSON")
        )
    elif len(content) > DESCRIPTOR_SET_BYTES_MAX:
        faults.append(
            Fault(
                f"{place}.descriptor_set",
                f"has {len(content)} bytes; {DESCRIPTOR_SET_BYTES_MAX} is the limit",
            )
        )
    else:
        try:
            described = DescriptorSet.parse(content)
        except NotDescribed as error:
            faults.append(Fault(f"{place}.descriptor_set", str(error)))
    return replace(participant, descriptor_set=described)


def _tell_not_read(error: BaseException) -> None:
    _log.warning("directory_not_read", reason=str(error))
