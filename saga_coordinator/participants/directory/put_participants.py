"""Participants that are put by the API: how they are read, and what they are on this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from saga_coordinator.participants.directory.addresses import Participant, name_problem, read_participant
from saga_coordinator.participants.directory.descriptors import DescriptorSet, NotDescribed
from saga_coordinator.participants.directory.files import CallersFiles
from saga_coordinator.participants.directory.register import StoredParticipant
from saga_coordinator.saga.words.errors import Fault, InvalidRequest, Unavailable
from saga_coordinator.turns import Turns

FILES_SECONDS_MAX = 5.0
"""A participant whose files take longer to read is on a mount that hangs."""

DESCRIPTOR_SET_BYTES_MAX = 4 * 1024 * 1024

_TLS_FILES = ("ca_file", "cert_file", "key_file")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A participant that is in use. `spec` and `updated_at` are None for one from the file."""

    participant: Participant
    spec: Mapping[str, Any] | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PutParticipant:
    """One revision of a participant that was put by the API. `entry` is None if this coordinator cannot use it."""

    revision: str
    entry: Entry | None


class PutReader:
    """Reads participants that were put, with the files that they name. It reads in threads, since a file may hang."""

    def __init__(self, files: CallersFiles) -> None:
        """Takes in `files` the files that a participant put by the API may name."""
        self._files = files
        self._turns = Turns(
            "readings of participants' files", at_once=4, waiting_max=32, seconds_max=FILES_SECONDS_MAX
        )
        self._slow: set[str] = set()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep participants from being put."""
        return self._turns.problems

    async def checked(self, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> Participant:
        """The participant, including its TLS files, as it would be put.

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

    async def read(self, stored: StoredParticipant, before: PutParticipant | None) -> PutParticipant | None:
        """Reads a row for this host. If its files take too long, the result is what was known `before`."""
        try:
            read = await self._turns.in_thread(self._read_here, stored, before)
        except Unavailable as error:
            if stored.name not in self._slow:
                _log.error("participant_not_read", participant=stored.name, reason=str(error))
                self._slow.add(stored.name)
            return before
        self._slow.discard(stored.name)
        return read

    def _read_here(self, stored: StoredParticipant, before: PutParticipant | None) -> PutParticipant:
        """Reads a row for this host; keeps the entry from before if the new row cannot be used here."""
        faults: list[Fault] = []
        spec = stored.spec or {}
        participant = read_put(stored.name, spec, stored.descriptor_set, self._files, "participant", faults)
        if faults or participant is None:
            _log.error(
                "participant_not_used", participant=stored.name, faults=[str(fault) for fault in faults]
            )
            return PutParticipant(stored.revision, before.entry if before else None)
        return PutParticipant(stored.revision, Entry(participant, spec, stored.updated_at))


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
