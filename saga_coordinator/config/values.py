"""Readers of settings. Each takes what was written, and raises ValueError with the values that are allowed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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


@dataclass(frozen=True, slots=True)
class Whole:
    """Reads a whole number from `minimum` to `maximum`."""

    minimum: int
    maximum: int

    @property
    def bounds(self) -> str:
        return f"{self.minimum:,} to {self.maximum:,}"

    def __call__(self, written: Any) -> int:
        is_text = isinstance(written, str) and re.fullmatch(r"\d{1,15}", written.replace("_", ""))
        if is_text or type(written) is int:
            number = int(written)
            if self.minimum <= number <= self.maximum:
                return number
        raise ValueError(f"must be a whole number from {self.minimum} to {self.maximum}")


@dataclass(frozen=True, slots=True)
class Seconds:
    """Reads a number of seconds from `minimum` to `maximum`, without a unit."""

    minimum: float
    maximum: float

    @property
    def bounds(self) -> str:
        return f"{self.minimum:g} to {self.maximum:,g}"

    def __call__(self, written: Any) -> float:
        is_text = isinstance(written, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", written)
        if is_text or type(written) in {int, float}:
            number = float(written)
            if self.minimum <= number <= self.maximum:
                return number
        raise ValueError(
            f"must be a number of seconds from {self.minimum:g} to {self.maximum:g}, without a unit"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Reads a name from `names`, in upper or lower case."""

    names: tuple[str, ...]

    @property
    def bounds(self) -> str:
        return ", ".join(self.names)

    def __call__(self, written: Any) -> str:
        if isinstance(written, str) and written.lower() in self.names:
            return written.lower()
        raise ValueError(f"must be one of {', '.join(self.names)}")


@dataclass(frozen=True, slots=True)
class Truth:
    """Reads true or false: a word rather than a flag without a value, so that all sources are written alike."""

    bounds: str = "true, false"

    def __call__(self, written: Any) -> bool:
        said = written.lower() if isinstance(written, str) else written
        if said in ("true", "false"):
            return bool(said == "true")
        if isinstance(said, bool):
            return said
        raise ValueError("must be true or false")


def path_of(written: Any) -> Path:
    """The path of a file or a folder. Raises ValueError."""
    if isinstance(written, str) and written and "\0" not in written:
        return Path(written)
    raise ValueError("must be the path of a file")


def database_url_of(written: Any) -> str:
    """The URL of a database, whose host can be told from its password. Raises ValueError."""
    problem = "must be a URL such as postgresql://user:password@host:5432/database, or with several hosts, host1:5432,host2:5432"
    if not isinstance(written, str) or not written.startswith(("postgresql://", "postgres://")):
        raise ValueError(problem)
    authority, *rest = re.split(r"(?=[/?#])", written.partition("://")[2], maxsplit=1)
    if authority.count("@") > 1 or ("@" not in authority and "@" in "".join(rest)):
        # The end of the password is ambiguous. A wrong guess would show a part of the password as the host.
        raise ValueError(
            "has an @ or / too many: percent-encode them in the user and the password (@ is %40, / is %2F, # is %23, ? is %3F)"
        )
    try:
        for host in authority.rpartition("@")[2].split(","):  # one by one: a list is no host to every Python
            urlsplit(f"//{host}").port  # noqa: B018  # reading it is what checks it
    except ValueError:
        raise ValueError(problem) from None
    return written


def claim_group_of(written: Any) -> str:
    """The name of a claim group. Raises ValueError."""
    if isinstance(written, str) and _GROUP.fullmatch(written):
        return written
    raise ValueError(
        "must be a name of 1 to 100 lower-case letters, digits, -, _ and ., beginning with a letter"
    )


def headers_of(written: Any) -> frozenset[str]:
    """The names of metadata that calls carry on. Raises ValueError."""
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
