"""The settings: read once, from flags, else the environment, else a file, else the defaults, and checked all together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from saga_coordinator.config.addresses import (
    addresses_of,
    peer_address_of,
    socket_group_of,
    socket_mode_of,
)
from saga_coordinator.config.files import FileFaulty, read_documents

ENVIRONMENT_PREFIX = "SAGA_"
FORWARD_HEADERS_MAX = 20

_GROUP = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_HEADER = re.compile(r"[a-z0-9_.-]{1,100}")
_OWN_PREFIXES = ("grpc-", "saga-")
_OWN_HEADERS = frozenset(
    {
        "action-idempotency-key",
        "connection",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "te",
        "transfer-encoding",
        "user-agent",
    }
)
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class SettingsFaulty(Exception):
    """Settings with faults; each says where the value came from, what is wrong with it and what would do."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class Settings:
    """What `saga-coordinator serve` runs with. Each field is described in `OPTIONS`."""

    database_url: str = field(repr=False)
    addresses: tuple[str, ...]
    socket_mode: int
    socket_group: int | None
    peer_address: str
    group: str
    participants: Path | None
    tls_folder: Path | None
    forward_headers: frozenset[str]
    processes: int
    payload_bytes_max: int
    steps_max: int
    block_nesting_max: int
    expression_characters_max: int
    items_max: int
    log_entries_max: int
    lease_seconds: float
    sagas_in_memory_max: int
    backlog_max: int
    pool_size: int
    prepared_statements: bool
    grace_seconds: float
    database_wait_seconds: float
    log_format: str
    log_level: str
    log_sagas: bool


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: how it is written and what it means.

    `parse` turns what was written, text or a value of the file's own type, into the field's value, or raises ValueError with
    what would do. `default` is as one would write it; None where there is none. `singular` names the flag of a list, which is
    repeated for each item.
    """

    name: str
    help: str
    metavar: str
    parse: Callable[[Any], Any]
    default: str | None = None
    is_required: bool = False
    singular: str | None = None
    is_path: bool = False
    is_secret: bool = False

    @property
    def flag(self) -> str:
        return "--" + (self.singular or self.name).replace("_", "-")

    @property
    def is_repeatable(self) -> bool:
        return self.singular is not None

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()


def _whole(minimum: int, maximum: int) -> Callable[[Any], int]:
    def parse(written: Any) -> int:
        is_text = isinstance(written, str) and re.fullmatch(r"\d{1,15}", written.replace("_", ""))
        if is_text or type(written) is int:
            number = int(written)
            if minimum <= number <= maximum:
                return number
        raise ValueError(f"must be a whole number from {minimum} to {maximum}")

    return parse


def _seconds(minimum: float, maximum: float) -> Callable[[Any], float]:
    def parse(written: Any) -> float:
        is_text = isinstance(written, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", written)
        if is_text or type(written) in {int, float}:
            number = float(written)
            if minimum <= number <= maximum:
                return number
        raise ValueError(f"must be a number of seconds from {minimum:g} to {maximum:g}, without a unit")

    return parse


def _choice(*names: str) -> Callable[[Any], str]:
    def parse(written: Any) -> str:
        if isinstance(written, str) and written.lower() in names:
            return written.lower()
        raise ValueError(f"must be one of {', '.join(names)}")

    return parse


def _truth(written: Any) -> bool:
    """A word rather than a flag without value, so that all sources are written alike."""
    said = written.lower() if isinstance(written, str) else written
    if said in ("true", "false"):
        return bool(said == "true")
    if isinstance(said, bool):
        return said
    raise ValueError("must be true or false")


def _path(written: Any) -> Path:
    if isinstance(written, str) and written and "\0" not in written:
        return Path(written)
    raise ValueError("must be the path of a file")


def _database_url(written: Any) -> str:
    problem = "must be a URL such as postgresql://user:password@host:5432/database, or with several hosts, host1:5432,host2:5432"
    if not isinstance(written, str) or not written.startswith(("postgresql://", "postgres://")):
        raise ValueError(problem)
    authority, *rest = re.split(r"(?=[/?#])", written.partition("://")[2], maxsplit=1)
    if authority.count("@") > 1 or ("@" not in authority and "@" in "".join(rest)):
        # Where the password ends is anybody's guess, and each would show another part of it as the host.
        raise ValueError(
            "has an @ or / too many: percent-encode them in the user and the password (@ is %40, / is %2F, # is %23, ? is %3F)"
        )
    try:
        for host in authority.rpartition("@")[2].split(","):  # one by one: a list is no host to every Python
            urlsplit(f"//{host}").port  # noqa: B018  # reading it is what checks it
    except ValueError:
        raise ValueError(problem) from None
    return written


def _group(written: Any) -> str:
    if isinstance(written, str) and _GROUP.fullmatch(written):
        return written
    raise ValueError(
        "must be a name of 1 to 100 lower-case letters, digits, -, _ and ., beginning with a letter"
    )


def _headers(written: Any) -> frozenset[str]:
    items = written.split(",") if isinstance(written, str) else written
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list of names, as in x-tenant,x-user")
    names = [item.strip().lower() for item in items if item.strip()]
    for name in names:
        if not _HEADER.fullmatch(name):
            raise ValueError(f"has {name!r}, which is no name: lower-case letters, digits, -, _ and .")
        if name.endswith("-bin"):
            raise ValueError(f"has {name!r}, whose value would be bytes; only texts are sent on")
        if name.startswith(_OWN_PREFIXES) or name in _OWN_HEADERS:
            raise ValueError(f"has {name!r}, which is set by gRPC or the coordinator itself")
        if name in _SECRET_HEADERS:
            raise ValueError(
                f"has {name!r}, which would be kept in the log of the saga; send what identifies its owner instead"
            )
    if len(names) > FORWARD_HEADERS_MAX:
        raise ValueError(f"has {len(names)} names; {FORWARD_HEADERS_MAX} is the limit")
    return frozenset(names)


OPTIONS: tuple[Option, ...] = (
    Option(
        "database_url",
        "Where Postgres is: postgresql://user:password@host:5432/database. Put it into the environment or a file rather than on "
        "the command line, which other users of the machine can read.",
        "URL",
        _database_url,
        is_required=True,
        is_secret=True,
    ),
    Option(
        "addresses",
        "Where to listen: HOST:PORT or unix:PATH. Repeatable; in the environment, separated by commas.",
        "ADDRESS",
        addresses_of,
        default="127.0.0.1:7242",
        singular="address",
    ),
    Option(
        "socket_mode",
        "Who may connect to the unix sockets among the addresses, in octal as for chmod: 0660 lets in the owner and the group, "
        "0666 everybody who can reach the folder.",
        "MODE",
        socket_mode_of,
        default="0600",
    ),
    Option(
        "socket_group",
        "The group of these sockets, by number or by name. Default: this process's own.",
        "GROUP",
        socket_group_of,
    ),
    Option(
        "peer_address",
        "Where the other coordinators of the database reach this one, to hand tasks to workers that are connected to it: "
        "HOST:PORT; port 0 takes a free one. On several machines, an address that the others can dial; 0.0.0.0 is told to them "
        "as the host's own name.",
        "ADDRESS",
        peer_address_of,
        default="127.0.0.1:0",
    ),
    Option(
        "group",
        "The claim group: which sagas this coordinator drives, among coordinators that share the database. A saga belongs to the "
        "group of the coordinator that took its start. Give each service's sidecars a group of their own when their participants "
        "files differ.",
        "NAME",
        _group,
        default="default",
    ),
    Option(
        "participants",
        "YAML file that says where each participant lives. It is read again when it changes, and on SIGHUP.",
        "FILE",
        _path,
        is_path=True,
    ),
    Option(
        "tls_folder",
        "The folder that holds every TLS file which callers of PutParticipant may name. Without it they may name none; the "
        "participants file may name any.",
        "FOLDER",
        _path,
        is_path=True,
    ),
    Option(
        "forward_headers",
        "Metadata of StartSaga that every call of the saga carries on, beside traceparent, tracestate and baggage: names, "
        "separated by commas. Kept in the saga's log.",
        "NAMES",
        _headers,
        default="",
    ),
    Option(
        "processes",
        "How many coordinators to run, sharing the port. One keeps a core busy.",
        "COUNT",
        _whole(1, 64),
        default="1",
    ),
    Option(
        "payload_bytes_max",
        "Largest payload, in bytes of the protobuf message that carries it.",
        "BYTES",
        _whole(1024, 64 * 1024 * 1024),
        default="1048576",
    ),
    Option(
        "steps_max",
        "Most steps of a definition, those in blocks included.",
        "COUNT",
        _whole(1, 10_000),
        default="200",
    ),
    Option(
        "block_nesting_max",
        "How deep blocks of a definition may lie in blocks.",
        "COUNT",
        _whole(1, 32),
        default="8",
    ),
    Option(
        "expression_characters_max",
        "Longest expression of a definition.",
        "COUNT",
        _whole(16, 4096),
        default="4096",
    ),
    Option(
        "items_max",
        "Most items of one for_each; more are the step's failure.",
        "COUNT",
        _whole(1, 100_000),
        default="1000",
    ),
    Option(
        "log_entries_max",
        "Entries of what one saga's steps did with which no loop, and no pass of one, begins any more.",
        "COUNT",
        _whole(100, 1_000_000),
        default="20000",
    ),
    Option(
        "lease_seconds",
        "After how long without a sign of life another coordinator takes this one's sagas over.",
        "SECONDS",
        _seconds(0.5, 300),
        default="3",
    ),
    Option(
        "sagas_in_memory_max",
        "How many unfinished sagas this coordinator drives at once; more wait in the database.",
        "COUNT",
        _whole(1, 1_000_000),
        default="10000",
    ),
    Option(
        "backlog_max",
        "How many started sagas may wait in the database for a coordinator with room, before starts are refused.",
        "COUNT",
        _whole(1, 1_000_000_000),
        default="100000",
    ),
    Option(
        "pool_size",
        "How many connections to Postgres to use at most, beside the two that lists have and the lease's.",
        "COUNT",
        _whole(5, 1000),
        default="8",
    ),
    Option(
        "prepared_statements",
        "Whether to prepare statements. Set to false behind a connection pooler in transaction mode that does not know "
        "them, such as PgBouncer before 1.21.",
        "true|false",
        _truth,
        default="true",
    ),
    Option(
        "grace_seconds",
        "How long calls in flight may take to end when the program is told to stop.",
        "SECONDS",
        _seconds(0, 3600),
        default="30",
    ),
    Option(
        "database_wait_seconds",
        "How long to wait at the start for a database that cannot be reached yet.",
        "SECONDS",
        _seconds(0, 3600),
        default="0",
    ),
    Option(
        "log_format",
        "json: one object a line; pretty: for reading; auto: pretty on a terminal, else json.",
        "auto|json|pretty",
        _choice("auto", "json", "pretty"),
        default="auto",
    ),
    Option(
        "log_level",
        "What is too unimportant to log.",
        "debug|info|warning|error",
        _choice("debug", "info", "warning", "error"),
        default="info",
    ),
    Option(
        "log_sagas",
        "Whether to log a line when a saga starts, turns back and ends. `dev` does unless told otherwise.",
        "true|false",
        _truth,
        default="false",
    ),
)


def load_settings(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Path | None = None,
    *,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """The settings: of each, the first given by `flags` (by name), `environment` (`SAGA_*`), `file`, `defaults`, or its own
    default.

    Paths in a file are relative to that file; all others to the working directory. An empty variable counts as not given.

    Raises:
        SettingsFaulty: with every fault.
    """
    faults: list[str] = []
    in_file = _read_file(file, faults) if file is not None else {}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        source, written = option.flag, flags.get(option.name)
        if written in (None, ()):
            source, written = option.variable, environment.get(option.variable) or None
        if written is None:
            source, written = f"{file}: {option.name}", in_file.get(option.name)
            if option.is_path and isinstance(written, str) and file is not None:
                written = str(file.parent / written)
        if written is None:
            source, written = "default", defaults.get(option.name, option.default)
        if written is None:
            if option.is_required:
                faults.append(
                    f"{option.flag} is missing: give it, or {option.variable} in the environment, or {option.name} in a file "
                    "named with --config"
                )
            values[option.name] = None
            continue
        try:
            values[option.name] = option.parse(written)
        except ValueError as error:
            shown = "" if option.is_secret else f" is {_shown(written)}, but"
            faults.append(f"{source}{shown} {error}")
    if faults:
        raise SettingsFaulty(faults)
    return Settings(**values)


def _read_file(file: Path, faults: list[str]) -> Mapping[str, Any]:
    try:
        content = _toml(file) if file.suffix == ".toml" else _yaml(file)
    except FileFaulty as error:
        faults.append(str(error))
        return {}
    known = {option.name for option in OPTIONS}
    faults.extend(
        f"{file}: {name} is not a setting; there are: {', '.join(sorted(known))}"
        for name in content
        if name not in known
    )
    return content


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFaulty(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFaulty(f"{file}: is not TOML: {error}") from None


def _yaml(file: Path) -> dict[str, Any]:
    documents = read_documents(file)
    if len(documents) > 1 or not isinstance(documents[0].content, dict):
        raise FileFaulty(f"{file}: must be one object of settings, as in `pool_size: 8`")
    return documents[0].content


def _shown(written: Any) -> str:
    return ", ".join(map(str, written)) if isinstance(written, tuple | list) else repr(written)


def masked_url(url: str) -> str:
    """A database URL fit for logs and screens: passwords are hidden, wherever in it they stand."""
    url = re.sub(r"(?<=://)([^/?#]*)@", _masked_user, url)
    return re.sub(r"(?i)((?:^|[?&])(?:ssl)?password=)[^&#]*", r"\1***", url)


def _masked_user(found: re.Match[str]) -> str:
    user, colon, _ = found[1].partition(":")
    return f"{user}{colon}{'***' if colon else ''}@"
