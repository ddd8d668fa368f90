"""The settings. Each is read once: from its flag, else from the environment, else from a file, else from the defaults. All are
checked together.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from saga_coordinator.config.addresses import (
    addresses_of,
    peer_address_of,
    socket_group_of,
    socket_mode_of,
)
from saga_coordinator.config.files import FileFaulty, read_documents
from saga_coordinator.config.values import (
    Choice,
    Seconds,
    Truth,
    Whole,
    claim_group_of,
    database_url_of,
    headers_of,
    path_of,
)
from saga_coordinator.nearest import nearest, suggestion

ENVIRONMENT_PREFIX = "SAGA_"
CONFIG_VARIABLE = "SAGA_CONFIG"

_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
"""Variables for the address of a Service (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables)."""


class SettingsFaulty(Exception):
    """Settings with faults. Each fault says where the value came from, what is wrong with it and which values are allowed."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `saga-coordinator serve`. `OPTIONS` describes each field."""

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
    """The description of one setting: how it is written and what it means.

    `parse` turns what was written, which is text or a value of the file's own type, into the field's value. It raises
    ValueError with the values that are allowed. `default` is what a user would write; it is None if there is no default.
    `singular` names the flag of a list, which a user repeats for each item.
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
    def bounds(self) -> str:
        """The values that the setting may have, such as `1 to 64`; empty if `help` already gives them."""
        return self.parse.bounds if isinstance(self.parse, Whole | Seconds | Choice | Truth) else ""

    @property
    def flag(self) -> str:
        return "--" + (self.singular or self.name).replace("_", "-")

    @property
    def is_repeatable(self) -> bool:
        return self.singular is not None

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()


OPTIONS: tuple[Option, ...] = (
    Option(
        "database_url",
        "The Postgres database: postgresql://user:password@host:5432/database. Give it in the environment or in a file: other "
        "users of the machine can read a command line.",
        "URL",
        database_url_of,
        is_required=True,
        is_secret=True,
    ),
    Option(
        "addresses",
        "Where to listen: HOST:PORT or unix:PATH. The flag may be repeated; in the environment, commas separate the "
        "addresses.",
        "ADDRESS",
        addresses_of,
        default="127.0.0.1:7242",
        singular="address",
    ),
    Option(
        "socket_mode",
        "Who may connect to the unix sockets among the addresses, in octal as for chmod. 0660 lets in the owner and the "
        "group, 0666 everybody who can reach the folder.",
        "MODE",
        socket_mode_of,
        default="0600",
    ),
    Option(
        "socket_group",
        "The group of the unix sockets, by number or by name. Default: the group of this process.",
        "GROUP",
        socket_group_of,
    ),
    Option(
        "peer_address",
        "Where the other coordinators of the database reach this one, to hand tasks to the workers that are connected to it: "
        "HOST:PORT. Port 0 takes a free port. If coordinators run on several machines, give an address that the others can "
        "dial; 0.0.0.0 tells them this host's name.",
        "ADDRESS",
        peer_address_of,
        default="127.0.0.1:0",
    ),
    Option(
        "group",
        "The claim group. A saga belongs to the group of the coordinator that took its start, and only coordinators of that "
        "group drive it. If services that share the database have different participants files, give the sidecars of each "
        "service their own group.",
        "NAME",
        claim_group_of,
        default="default",
    ),
    Option(
        "participants",
        "The YAML file that says where each participant lives. The coordinator reads it again when it changes, and on SIGHUP.",
        "FILE",
        path_of,
        is_path=True,
    ),
    Option(
        "tls_folder",
        "The folder that holds every TLS file that a caller of PutParticipant may name. Without it, callers may name none. "
        "The participants file may name any file.",
        "FOLDER",
        path_of,
        is_path=True,
    ),
    Option(
        "forward_headers",
        "Metadata of StartSaga that goes along with every call of the saga, beside traceparent, tracestate and baggage: "
        "names, separated by commas. The values are kept in the saga's log.",
        "NAMES",
        headers_of,
        default="",
    ),
    Option(
        "processes",
        "How many coordinators to run on the same port. One coordinator keeps one core busy.",
        "COUNT",
        Whole(1, 64),
        default="1",
    ),
    Option(
        "payload_bytes_max",
        "The largest payload, in bytes of the protobuf message that carries it.",
        "BYTES",
        Whole(1024, 64 * 1024 * 1024),
        default="1048576",
    ),
    Option(
        "steps_max",
        "The most steps of a definition, including those in blocks.",
        "COUNT",
        Whole(1, 10_000),
        default="200",
    ),
    Option(
        "block_nesting_max",
        "How deep a definition may nest blocks in blocks.",
        "COUNT",
        Whole(1, 32),
        default="8",
    ),
    Option(
        "expression_characters_max",
        "The longest expression of a definition, in characters.",
        "COUNT",
        Whole(16, 4096),
        default="4096",
    ),
    Option(
        "items_max",
        "The most items of one for_each. With more items, the step fails.",
        "COUNT",
        Whole(1, 100_000),
        default="1000",
    ),
    Option(
        "log_entries_max",
        "How many entries the steps of one saga may write. Beyond that, a loop that would begin, or begin another pass, "
        "fails.",
        "COUNT",
        Whole(100, 1_000_000),
        default="20000",
    ),
    Option(
        "lease_seconds",
        "How long a coordinator may give no sign of life before another one takes over its sagas.",
        "SECONDS",
        Seconds(0.5, 300),
        default="3",
    ),
    Option(
        "sagas_in_memory_max",
        "How many unfinished sagas this coordinator drives at once. The others wait in the database.",
        "COUNT",
        Whole(1, 1_000_000),
        default="10000",
    ),
    Option(
        "backlog_max",
        "How many started sagas may wait in the database for a coordinator that has room. Beyond that, starts are refused.",
        "COUNT",
        Whole(1, 1_000_000_000),
        default="100000",
    ),
    Option(
        "pool_size",
        "The most connections to Postgres. Lists use two more, and the lease uses one more.",
        "COUNT",
        Whole(5, 1000),
        default="8",
    ),
    Option(
        "prepared_statements",
        "Whether to prepare statements. Set it to false behind a connection pooler in transaction mode that cannot handle "
        "them, such as PgBouncer before 1.21.",
        "true|false",
        Truth(),
        default="true",
    ),
    Option(
        "grace_seconds",
        "How long calls in flight may take to end when the program is told to stop.",
        "SECONDS",
        Seconds(0, 3600),
        default="30",
    ),
    Option(
        "database_wait_seconds",
        "How long to wait at the start for a database that cannot be reached yet.",
        "SECONDS",
        Seconds(0, 3600),
        default="0",
    ),
    Option(
        "log_format",
        "json: one object a line; pretty: for people; auto: pretty on a terminal, else json.",
        "auto|json|pretty",
        Choice(("auto", "json", "pretty")),
        default="auto",
    ),
    Option(
        "log_level",
        "The least important lines to log.",
        "debug|info|warning|error",
        Choice(("debug", "info", "warning", "error")),
        default="info",
    ),
    Option(
        "log_sagas",
        "Whether to log a line when a saga starts, turns back and ends. `dev` logs them by default.",
        "true|false",
        Truth(),
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
    """Loads the settings. The value of each setting comes from the first of these that gives one: `flags` (by name),
    `environment` (`SAGA_*`), `file`, `defaults`, and the setting's own default.

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
            source, written = f"{file}: {option.name}", (in_file or {}).get(option.name)
            if option.is_path and isinstance(written, str) and file is not None:
                written = str(file.parent / written)
        if written is None:
            source, written = "default", defaults.get(option.name, option.default)
        if written is None:
            if option.is_required and in_file is not None:  # a file that cannot be read may well have it
                faults.append(_missing(option, environment))
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


def _missing(option: Option, environment: Mapping[str, str]) -> str:
    misspelt = [
        f"; {name} is set, and is not a setting"
        for name, meant in unknown_variables(environment).items()
        if meant == option.variable
    ]
    return (
        f"{option.flag} is missing: give it, or {option.variable} in the environment, or {option.name} in a file "
        f"named with --config{''.join(misspelt)}"
    )


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that look like settings and are none, each with the variable that was probably meant.

    Variables that Kubernetes sets in every pod for a Service named `saga...` do not count.
    """
    known = {option.variable for option in OPTIONS} | {CONFIG_VARIABLE}
    return {
        name: nearest(name, sorted(known))
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known and not _OF_KUBERNETES.search(name)
    }


def _read_file(file: Path, faults: list[str]) -> Mapping[str, Any] | None:
    """The values in the file, by the setting's name. None if the file cannot be read; the last of `faults` then says why."""
    try:
        content = _toml(file) if file.suffix == ".toml" else _yaml(file)
    except FileFaulty as error:
        faults.append(str(error))
        return None
    known = sorted(option.name for option in OPTIONS)
    for name in content:
        if name not in known:
            way_out = suggestion(name, known) or f"; there are: {', '.join(known)}"
            faults.append(f"{file}: {name} is not a setting{way_out}")
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
    """The database URL in a form fit for logs and screens: every password in it is hidden, wherever it stands."""
    url = re.sub(r"(?<=://)([^/?#]*)@", _masked_user, url)
    return re.sub(r"(?i)((?:^|[?&])(?:ssl)?password=)[^&#]*", r"\1***", url)


def _masked_user(found: re.Match[str]) -> str:
    user, colon, _ = found[1].partition(":")
    return f"{user}{colon}{'***' if colon else ''}@"
