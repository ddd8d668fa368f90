"""One connection, put together from flags, the environment, a context and defaults, in this order."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagactl.connecting.contexts import FIELDS, read_contexts
from sagactl.endings import WrongUsage
from sagactl.spans import seconds_of

DEFAULT_ADDRESS = "127.0.0.1:7242"
DEFAULT_TIMEOUT_SECONDS = 10.0
TOKEN_COMMAND_SECONDS = 30.0
"""How long a command may take to print a token; it may ask a person."""
CONTEXT_VARIABLE = "SAGACTL_CONTEXT"

_TLS_FILES = ("ca_file", "cert_file", "key_file")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # replaced, not listened on


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a server, and what goes along with each call. `context` is the name it came from, or empty."""

    address: str = DEFAULT_ADDRESS
    context: str = ""
    is_tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    token: str = ""
    token_file: str = ""
    token_command: str = ""
    namespace: str = ""
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    descriptor_set: str = ""
    requested_by: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """The address as gRPC dials it."""
        host, colon, port = self.address.rpartition(":")
        return f"{_WILDCARDS.get(host, host)}{colon}{port}"

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        host = self.target.rpartition(":")[0]
        return self.address.startswith("unix:") or host in ("localhost", "[::1]") or host.startswith("127.")

    def read_token(self) -> str:
        """The bearer token, or empty. Runs the command if that is how to get it. Raises WrongUsage."""
        if self.token:
            return self.token
        if self.token_file:
            return _read_text(self.token_file)
        return _printed_by(self.token_command) if self.token_command else ""


def variable_of(name: str) -> str:
    """The variable of the environment that gives a field of the connection."""
    return f"SAGACTL_{name.upper()}"


def connection_of(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Connection:
    """The connection that `flags` (without those not given), the environment and the context add up to. Raises Problem."""
    context, of_context = _context(flags, environment)
    said: dict[str, Any] = {**of_context, **_of_environment(environment), **flags}
    is_tls = said.get("tls")
    if is_tls is None:
        is_tls = any(said.get(name) for name in _TLS_FILES)
    if bool(said.get("cert_file")) != bool(said.get("key_file")):
        raise WrongUsage("a client certificate needs both --cert-file and --key-file")
    return Connection(
        address=_address(str(said.get("address") or DEFAULT_ADDRESS)),
        context=context,
        is_tls=_as_bool(is_tls),
        timeout_seconds=_timeout(said.get("timeout")),
        headers=tuple(_header(each) for each in said.get("headers", ())),
        **{name: str(said.get(name) or "") for name in _TEXTS},
    )


_TEXTS = tuple(name for name in FIELDS if name not in ("address", "tls", "timeout"))


def _context(flags: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    named = flags.get("context") or environment.get(CONTEXT_VARIABLE) or ""
    if not named and (flags.get("address") or environment.get(variable_of("address"))):
        # An address given by hand is not the current context's, so neither are its token and certificates.
        return "", {}
    contexts = read_contexts(environment)
    name = str(named or contexts.current)
    return name, contexts.get(name) if name else {}


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[variable_of(name)] for name in FIELDS if environment.get(variable_of(name))}


def _address(written: str) -> str:
    if written.startswith("unix:"):
        return written
    host, _, port = written.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise WrongUsage(f"{written!r} is no address: give HOST:PORT, such as localhost:7242, or unix:PATH")
    return written


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes"):
        return True
    if str(value).lower() in ("false", "0", "no"):
        return False
    raise WrongUsage(f"`tls` is {value!r}; give true or false")


def _timeout(written: Any) -> float:
    if written in (None, ""):
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = seconds_of(str(written))
    except ValueError as error:
        raise WrongUsage(f"the time-out {error}") from None
    if seconds <= 0:
        raise WrongUsage("the time-out must be longer than nothing")
    return seconds


def _header(written: str) -> tuple[str, str]:
    name, colon, value = written.partition(":")
    if not colon or not name.strip():
        raise WrongUsage(f"{written!r} is no header: give NAME: VALUE")
    return name.strip().lower(), value.strip()


def _read_text(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"the token cannot be read from {file}: {error}") from None


def _printed_by(command: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdout=subprocess.PIPE,
            text=True,
            timeout=TOKEN_COMMAND_SECONDS,
            check=True,
            env=os.environ,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise WrongUsage(f"the token command failed: {error}") from None
    token = done.stdout.strip()
    if not token or len(token.split()) != 1:
        raise WrongUsage(
            f"the token command `{command}` must print one token, and printed {len(token.split())} words"
        )
    return token
