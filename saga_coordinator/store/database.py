"""The one pool of connections, and the one place where the driver's errors become ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from saga_coordinator.lifecycle import Service
from saga_coordinator.saga.words.errors import InvalidRequest, Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.sockets import PORT_MAX

CONNECT_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS_EACH = 2
"""Of several hosts, so that one that swallows packets does not use up the time of a lease. libpq takes no less than 2 s."""
_LIMITS = (
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.TooManyColumns,
    errors.TooManyArguments,
)
"""What is too long or too deep for Postgres today will be so tomorrow, though the driver files it under outages."""
_POOLED_STATEMENT_LOST = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
"""What a pooler in transaction mode makes of prepared statements, when it does not know them."""
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry|"
    r"(?:role|user|database) \".{1,80}\" does not exist|permission denied for database|is not permitted to log in"
)
"""What Postgres says of a connection that it will not take tomorrow either. The driver has no class for these words."""
_UNRESOLVED = re.compile(r"failed to resolve host|could not translate host name")
"""What the driver, or libpq, says of a host's name without an address."""
_IS_IT_RUNNING = re.compile(r" Is the server running [^?]{1,80}\?")
"""What the driver asks after each address where nobody listens, without a full stop before it."""
_CONNECTION_PARAMETERS = {
    "application_name": "saga-coordinator",
    "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
    # A peer that vanishes without a word is noticed in seconds. The lease fences sooner, by the local clock.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


_SEVERAL_HOSTS = re.compile(r"([^:/]+://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)(.*)", re.DOTALL)
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::(\d*))?")


def driver_url(dsn: str) -> str:
    """The SQLAlchemy URL for a libpq URL, which may name several hosts. Parameters in the URL win over the defaults.

    The first of several hosts that accepts writes is used, unless `target_session_attrs` says otherwise.

    Raises:
        InvalidRequest: it is not a `postgresql://` URL, or has a parameter that libpq does not know.
    """
    dsn, hosts, ports = _taken_apart(dsn)
    try:
        url = make_url(dsn)
    except (ArgumentError, ValueError):
        raise InvalidRequest.at(
            "database_url", "is not a URL such as postgresql://user@host:5432/name"
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidRequest.at("database_url", "must begin with postgresql://")
    for port in (url.port, *(int(each) for each in ports if each)):
        if port is not None and not 1 <= port <= PORT_MAX:
            raise InvalidRequest.at("database_url", f"has port {port}; a port is 1 to {PORT_MAX}")
    defaults = _CONNECTION_PARAMETERS
    if hosts:
        # This form of SQLAlchemy's also carries IPv6 addresses.
        url = url.update_query_dict({"host": ",".join(hosts), "port": ",".join(ports)})
        each = {"connect_timeout": str(CONNECT_TIMEOUT_SECONDS_EACH), "target_session_attrs": "read-write"}
        defaults = defaults | each
    try:
        make_conninfo(**{name: str(value) for name, value in url.query.items()})
    except psycopg.Error as error:
        raise InvalidRequest.at("database_url", f"has an {str(error).strip()}") from None
    url = url.set(drivername="postgresql+psycopg")
    missing = {name: value for name, value in defaults.items() if name not in url.query}
    return url.update_query_dict(missing).render_as_string(hide_password=False)


def _taken_apart(dsn: str) -> tuple[str, list[str], list[str]]:
    """Splits a URL with several hosts into the rest of the URL, the hosts and their ports; returns any other URL as it is."""
    found = _SEVERAL_HOSTS.fullmatch(dsn)
    if found is None:
        return dsn, [], []
    hosts, ports = [], []
    for written in found[2].split(","):
        host = _HOST.fullmatch(written)
        if host is None:
            raise InvalidRequest.at(
                "database_url", f"has {written!r} among its hosts; a host is NAME:PORT or [IPV6]:PORT"
            )
        hosts.append(unquote(host[1] or host[2]))
        ports.append(host[3] or "")
    return found[1] + found[3], hosts, ports


def short_lived_engine(dsn: str) -> Engine:
    """An engine for a few statements at the start or in a migration. Raises InvalidRequest."""
    # A pooler in transaction mode may give each statement another connection, so nothing is prepared.
    return create_engine(driver_url(dsn), connect_args={"prepare_threshold": None})


def unavailable(error: BaseException) -> Unavailable:
    """The error for the driver's error, with its words in one line."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, _POOLED_STATEMENT_LOST):
        said += " (behind a connection pooler in transaction mode, set prepared_statements to false)"
    if _REFUSED.search(said):
        return Unavailable(
            Reason.DATABASE_UNAVAILABLE,
            f"the database refuses the connection; mend the database URL or the role: {said}",
        )
    if _UNRESOLVED.search(said):
        return Unavailable(
            Reason.DATABASE_UNAVAILABLE,
            f"the host's name in the database URL has no address; mend the name, or the machine's name service: {said}",
        )
    if _IS_IT_RUNNING.search(said):
        return Unavailable(
            Reason.DATABASE_UNAVAILABLE,
            f"the database cannot be reached; start it, or mend the database URL: {_IS_IT_RUNNING.sub('', said)}",
        )
    return Unavailable(Reason.DATABASE_UNAVAILABLE, f"the database cannot serve this now: {said}")


def is_outage(error: BaseException | None) -> bool:
    """Tells whether an error means that the database is away or overloaded, rather than that a statement is wrong."""
    if isinstance(error, PoolTimeout | OSError | TimeoutError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_outage(error.orig)
    if has_ended_the_session(error):
        return True
    if isinstance(error, _LIMITS):
        return False
    # OperationalError covers lost connections, shutdown, a full disk, too many connections, serialization failures and
    # deadlocks: all of them pass. A primary that has become a standby is read-only until somebody points us elsewhere.
    return is_useless_after(error) or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def has_ended_the_session(error: BaseException | None) -> bool:
    """Tells whether Postgres ended the session, or itself. Statements on their way may have been committed or not."""
    return isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def is_useless_after(error: BaseException | None) -> bool:
    """Tells whether a connection that is alive will go on failing in this way, while a new connection may work.

    A primary that was made a standby may keep its connections.
    """
    return isinstance(error, (errors.ReadOnlySqlTransaction, *_POOLED_STATEMENT_LOST))


def is_taken_back(error: BaseException | None) -> bool:
    """Tells whether Postgres took a transaction back and said so over a connection that goes on: nothing of it was written."""
    is_told = isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized == "ERROR"
    return is_told and not is_useless_after(error)


@contextmanager
def translated(engine: Engine) -> Iterator[Connection]:
    """A connection of a short-lived engine. Raises Unavailable if no connection can be made."""
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        if is_outage(error):
            raise unavailable(error) from error
        raise
    finally:
        engine.dispose()


class Database(Service):
    """The pool of connections. The journal and the listener for requests keep one connection each.

    `prepared_statements` has to be false behind a pooler in transaction mode that does not know them.
    """

    def __init__(self, dsn: str, *, pool_size: int = 8, prepared_statements: bool = True) -> None:
        self.prepared_statements = prepared_statements
        self._dsn = dsn
        self._engine = create_async_engine(
            driver_url(dsn),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=5,
            # If something ends idle sessions (idle_session_timeout, a firewall), all idle connections in the pool die at once.
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            connect_args={} if prepared_statements else {"prepare_threshold": None},
        )
        event.listen(self._engine.sync_engine, "handle_error", _leave_useless)
        _Hosts(self._engine.sync_engine)

    def beside(self, *, pool_size: int) -> Database:
        """The same database over other connections, for another event loop. They prepare no statements."""
        return Database(self._dsn, pool_size=pool_size, prepared_statements=False)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Closes the connections that nobody uses."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises Unavailable when the database cannot be reached."""
        async with self.connection() as connection:
            await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose statements each commit by themselves.

        Raises:
            Unavailable: the database is away or overloaded.
        """
        try:
            async with self._engine.connect() as connection:
                yield connection
        except Exception as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise

    @asynccontextmanager
    async def driver_connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection of the driver, for a user that keeps it and may change it. It is closed in the end."""
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            try:
                yield driver
            finally:
                await driver.close()
                await connection.invalidate()


class _Hosts:
    """Chooses which of several hosts is asked first: the one that took the last connection, or the next after a failure.

    Otherwise every connection would first wait for a dead host's timeout, and callers with less time would never connect.
    """

    def __init__(self, engine: Engine) -> None:
        self._hosts: list[tuple[str, str]] = []
        self._first = 0
        event.listen(engine, "do_connect", self._connecting)
        event.listen(engine, "connect", self._connected)

    def _connecting(self, _: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
        if not self._hosts:
            hosts = str(parameters.get("host", "")).split(",")
            ports = str(parameters.get("port", "")).split(",")
            self._hosts = [(host, ports[index % len(ports)]) for index, host in enumerate(hosts)]
        if len(self._hosts) > 1:
            order = self._hosts[self._first :] + self._hosts[: self._first]
            parameters["host"], parameters["port"] = map(",".join, zip(*order, strict=True))
            self._first = (self._first + 1) % len(self._hosts)

    def _connected(self, connection: Any, _: Any) -> None:
        info = connection.driver_connection.info
        for index, (host, port) in enumerate(self._hosts):
            if (host, port or "5432") == (info.host, str(info.port)):
                self._first = index


def _leave_useless(context: ExceptionContext) -> None:
    if is_useless_after(context.original_exception):
        context.is_disconnect = True
