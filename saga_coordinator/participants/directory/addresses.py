"""The directory: where each participant lives. A file, YAML or JSON, per environment:

    participants:
      inventory: {target: "dns:///inventory:50051"}
      payments:
        target: payments.internal:443
        tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: payments}
      shipping: {target: "unix:shipping.sock", tls: true}
      invoicing: {worker: true}
      ledger: {target: "dns:///ledger:50051", load_balancing: round_robin, limits: {concurrency: 64}}
      mail: {target: "mail:50051", defaults: {timeout: 2s, retry: {max_attempts: 3}}}

`worker: true`: it dials us and takes tasks from a stream (`saga.v1.WorkerService`), so it has neither a target nor TLS here.
`tls` absent or false: plaintext; true or empty: TLS with the system's roots. `descriptor_set: inventory.binpb` names a file, made
by `protoc --include_imports --descriptor_set_out`, that says what the participant's methods take, where it does not say so itself
by server reflection. `load_balancing`: pick_first (the default) or round_robin over all addresses that the target has. `limits`:
see `limits.py`. `defaults`: what its operations have in definitions registered from now on that do not say otherwise. Relative
file names, of sockets too, start at the directory file's folder.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import quote

from saga_coordinator.config import FileFaulty, read_documents
from saga_coordinator.participants.directory.descriptors import DescriptorSet, NotDescribed
from saga_coordinator.participants.directory.fields import read_fields
from saga_coordinator.participants.directory.files import DESCRIPTOR_SET_BYTES_MAX, Files, OwnFiles
from saga_coordinator.participants.directory.limits import WORKER_LIMITS, ParticipantLimits, read_limits
from saga_coordinator.participants.directory.tls import Tls, read_tls
from saga_coordinator.saga.definition.participant_defaults import check_defaults
from saga_coordinator.saga.words.errors import Fault, InvalidRequest
from saga_coordinator.saga.words.names import NAME
from saga_coordinator.sockets import PORT_MAX, UNIX_PATH_BYTES_MAX

_HOST_AND_PORT = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?):(?P<port>\d{1,5})"
)
_TARGET_FORMS = "host:port, dns:///host:port, ipv4:address:port, ipv6:[address]:port or unix:path"
_FIELDS = ("target", "tls", "worker", "descriptor_set", "load_balancing", "limits", "defaults")
_WORKER_FIELDS = ("worker", "limits", "defaults")


LOAD_BALANCING = ("pick_first", "round_robin")


class InvalidDirectory(InvalidRequest):
    """A directory file that cannot be used. Each fault's path begins with `FILE:LINE`."""


@dataclass(frozen=True, slots=True)
class Participant:
    """A named service. `target` is a gRPC target; `tls` is None for plaintext. A participant that `is_worker` has neither.

    `descriptor_set` is None if server reflection describes its methods. `load_balancing` is a policy of gRPC. `defaults` is
    the JSON form of `saga.v1.ParticipantDefaults`.
    """

    name: str
    target: str
    tls: Tls | None = None
    descriptor_set: DescriptorSet | None = None
    is_worker: bool = False
    load_balancing: str = LOAD_BALANCING[0]
    given_limits: ParticipantLimits | None = None
    defaults: Mapping[str, Any] | None = None

    @property
    def limits(self) -> ParticipantLimits:
        """The limits that were given, or else the usual limits."""
        return self.given_limits or (WORKER_LIMITS if self.is_worker else ParticipantLimits())


@dataclass(frozen=True, slots=True)
class Directory:
    """The participants of one file. It is immutable: a changed file is a new directory. `path` is None without a file."""

    path: Path | None
    participants: Mapping[str, Participant]

    @classmethod
    def empty(cls) -> Self:
        """A directory without participants."""
        return cls(None, MappingProxyType({}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a directory file and the certificates that it names.

        Raises:
            InvalidDirectory: with every fault found.
        """
        path = Path(path)
        try:
            document, *others = read_documents(path)
        except FileFaulty as error:
            raise InvalidDirectory([Fault("", str(error))]) from error
        faults: list[Fault] = []
        if others:
            faults.append(Fault("", f"holds {len(others) + 1} YAML documents; a directory is one"))
        participants = dict(_participants(document.content, path.parent, faults))
        if faults:
            raise InvalidDirectory(
                [
                    Fault(
                        f"{document.locate(fault.path)}: {fault.path}".removesuffix(": "), fault.description
                    )
                    for fault in faults
                ]
            )
        return cls(path, MappingProxyType(participants))

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.participants)

    @property
    def worker_names(self) -> frozenset[str]:
        """The names of the participants that dial the coordinator."""
        return frozenset(name for name, participant in self.participants.items() if participant.is_worker)

    @property
    def defaults(self) -> dict[str, Mapping[str, Any]]:
        """The timeouts and retries of the participants that have their own."""
        return {each.name: each.defaults for each in self.participants.values() if each.defaults}

    def get(self, name: str) -> Participant | None:
        return self.participants.get(name)

    def changed(self, name: str, participant: Participant | None) -> Directory:
        """The same directory with one participant changed, or without it for None."""
        participants = dict(self.participants)
        if participant is None:
            participants.pop(name, None)
        else:
            participants[name] = participant
        return Directory(self.path, MappingProxyType(participants))


def _participants(content: Any, folder: Path, faults: list[Fault]) -> Iterator[tuple[str, Participant]]:
    top = read_fields(content, "", ("participants",), faults)
    if top is None:
        return
    listed = top.get("participants")
    if not isinstance(listed, Mapping):
        faults.append(
            Fault("participants", "must map names to participants; for none, write `participants: {}`")
        )
        return
    for name, source in listed.items():
        place = f"participants.{name}"
        if problem := name_problem(name):
            faults.append(Fault(place, problem))
        participant = read_participant(name, source, place, OwnFiles(folder), faults)
        if participant is not None:
            yield name, participant


def name_problem(name: str) -> str | None:
    """The reason why this is no participant's name; None if it is one."""
    return None if NAME.fullmatch(name) else f"is not a name: it must match {NAME.pattern}"


def read_participant(
    name: str, source: Any, place: str, files: Files, faults: list[Fault]
) -> Participant | None:
    """Reads one participant as a directory has it, and adds its faults to `faults`. None if it is no object at all."""
    fields = read_fields(source, place, _FIELDS, faults)
    if fields is None:
        return None
    is_worker = _is_worker(fields, place, faults)
    limits = (
        read_limits(fields["limits"], f"{place}.limits", faults, is_worker=is_worker)
        if "limits" in fields
        else None
    )
    defaults = fields.get("defaults")
    if defaults is not None:
        check_defaults(defaults, f"{place}.defaults", faults)
    if is_worker:
        return Participant(name, "", is_worker=True, given_limits=limits, defaults=defaults)
    target = _target(fields.get("target"), f"{place}.target", files.path(""), faults)
    tls = read_tls(fields["tls"], f"{place}.tls", files, faults) if "tls" in fields else None
    described = None
    if "descriptor_set" in fields:
        described = _descriptor_set(fields["descriptor_set"], f"{place}.descriptor_set", files, faults)
    balancing = fields.get("load_balancing", LOAD_BALANCING[0])
    if balancing not in LOAD_BALANCING:
        faults.append(Fault(f"{place}.load_balancing", f"must be one of {', '.join(LOAD_BALANCING)}"))
    return Participant(
        name,
        target,
        tls,
        described,
        load_balancing=str(balancing),
        given_limits=limits,
        defaults=defaults,
    )


def _descriptor_set(source: Any, place: str, files: Files, faults: list[Fault]) -> DescriptorSet | None:
    if not isinstance(source, str) or not source or "\0" in source:
        faults.append(Fault(place, "must be the name of a file"))
        return None
    content = files.read(source, place, DESCRIPTOR_SET_BYTES_MAX, faults)
    if content is None:
        return None
    try:
        return DescriptorSet.parse(content)
    except NotDescribed as error:
        faults.append(Fault(place, f"{files.path(source)} {error}"))
        return None


def _is_worker(fields: Mapping[str, Any], place: str, faults: list[Fault]) -> bool:
    worker = fields.get("worker", False)
    if not isinstance(worker, bool):
        faults.append(Fault(f"{place}.worker", "must be true or false"))
        return True  # whatever was meant, a missing target is not what is wrong
    if worker:
        faults.extend(
            Fault(f"{place}.{name}", "must not be given for a worker, which dials the coordinator")
            for name in fields
            if name not in _WORKER_FIELDS
        )
    return worker


def _target(source: Any, place: str, folder: Path, faults: list[Fault]) -> str:
    if not isinstance(source, str) or not source:
        faults.append(Fault(place, f"must be a string: {_TARGET_FORMS}"))
        return ""
    scheme, colon, rest = source.partition(":")
    if scheme == "unix" and colon:
        return _unix_target(rest, place, folder, faults)
    if scheme in ("ipv4", "ipv6") and colon:
        problem = next((p for p in (_address_problem(scheme, one) for one in rest.split(",")) if p), None)
    elif scheme == "unix-abstract" and colon:
        problem = None if rest else "names no socket"
    elif scheme == "dns" and colon and not rest.isdecimal():
        # dns:host:port, or dns://server/host:port with the name server to ask, which is mostly left out
        problem = _host_problem(rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest)
    else:
        problem = _host_problem(source)
    if problem:
        faults.append(Fault(place, f"`{source[:200]}` {problem}; write {_TARGET_FORMS}"))
    return source


def _unix_target(rest: str, place: str, folder: Path, faults: list[Fault]) -> str:
    if rest.startswith("//") and not rest.startswith("///"):
        faults.append(Fault(place, f"`unix:{rest}` has a host; write unix:path or unix:///path"))
        return ""
    socket = (folder / rest.removeprefix("//")).absolute()
    size = len(str(socket).encode("utf-8", "replace"))
    if not rest or size > UNIX_PATH_BYTES_MAX:
        faults.append(
            Fault(place, f"{socket} is {size} bytes long; a socket's path has 1 to {UNIX_PATH_BYTES_MAX}")
        )
    if "," in str(socket):  # gRPC reads a list of sockets there
        faults.append(Fault(place, f"{socket} has a comma in its path"))
    return f"unix:{quote(str(socket))}"


def _host_problem(text: str) -> str | None:
    matched = _HOST_AND_PORT.fullmatch(text)
    if matched is None:
        return "is not a host and a port"
    return None if 1 <= int(matched["port"]) <= PORT_MAX else f"has a port outside 1 to {PORT_MAX}"


def _address_problem(scheme: str, text: str) -> str | None:
    host = text.rpartition(":")[0].strip("[]")
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return "has an address that is none"
    return _host_problem(text) if scheme == f"ipv{version}" else f"is not an {scheme} address"
