"""The directory in use: the participants of the file and, under other names, the participants put by the API.

If both have a name, the file's participant is used: no call redirects what was deployed with an environment. The database is
looked at every half second, so that no coordinator needs a restart for a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import structlog

from saga_coordinator.lifecycle import Service
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.files import CallersFiles
from saga_coordinator.participants.directory.put_participants import Entry, PutParticipant, PutReader
from saga_coordinator.participants.directory.register import BreakerSetting, Register
from saga_coordinator.participants.directory.register_watch import RegisterWatch
from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.reasons import Reason

_log = structlog.get_logger(__name__)


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
        self.reader = PutReader(files)
        self._file = file
        self._register = register
        self._put: dict[str, PutParticipant] = {}
        self._settings: dict[str, BreakerSetting] = {}
        self._one_at_a_time = asyncio.Lock()
        self._watch = RegisterWatch(self._refresh, self._one_at_a_time)

    async def start(self) -> None:
        """Reads the participants from the database, if that can be reached, and goes on looking for changes."""
        await self._watch.start()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops looking for changes."""
        await self._watch.stop()

    @property
    def known(self) -> frozenset[str]:
        """The names of the participants that are in use."""
        return self._participants.names

    async def look_now(self) -> None:
        """Returns once the directory knows all that the database held at the call, or that the database cannot be reached."""
        await self._watch.look_now()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep the directory from hearing of changes."""
        return self._watch.problems

    def use_file(self, file: Directory) -> None:
        """Uses this file instead of the one before."""
        self._file = file
        self._use()

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
            self._put[name] = PutParticipant(put.revision, Entry(participant, spec, put.updated_at))
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
        """Forces a breaker everywhere, or leaves it to itself again, and records the act.

        Raises:
            NotFound: no participant of that name is known, and nobody has decided about its breaker.
            Unavailable: the database is away.
        """
        if name not in self.known and name not in self._settings:
            await self._refresh()  # it may have been put elsewhere just now
            if name not in self._settings:
                self.get(name)
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

    async def _refresh(self) -> None:
        async with self._one_at_a_time:
            known = [put.revision for put in self._put.values()]
            stored = await self._register.read(DEFAULT_NAMESPACE, known)
            settings = {each.participant: each for each in await self._register.breakers(DEFAULT_NAMESPACE)}
            put = {each.name: self._put.get(each.name) for each in stored}
            changed = [each for each in stored if each.spec is not None]
            for each in changed:
                put[each.name] = await self.reader.read(each, self._put.get(each.name))
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
