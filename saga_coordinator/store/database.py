"""The one pool of connections, and the one place where the driver's errors become ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from saga_coordinator.saga.errors import InvalidRequest, Unavailable

CONNECT_TIMEOUT_SECONDS = 5
_LIMITS = (
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.TooManyColumns,
    errors.TooManyArguments,
)
"""What is too long or too deep for Postgres today will be so tomorrow, though the driver files it under outages."""
_CONNECTION_PARAMETERS = {
    "application_name": "saga-coordinator",
    "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
    # A peer that vanished without a word is noticed in seconds; the lease fences sooner, by the local clock.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def driver_url(dsn: str) -> str:
    """The SQLAlchemy URL of a libpq URL; parameters given there win over the defaults.

    Raises:
        InvalidRequest: it is not a `postgresql://` URL, or has a parameter that libpq does not know.
    """
    try:
        url = make_url(dsn)
    except (ArgumentError, ValueError):
        raise InvalidRequest.at(
            "database_url", "is not a URL such as postgresql://user@host:5432/name"
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise InvalidRequest.at("database_url", "must begin with postgresql://")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise InvalidRequest.at("database_url", f"has port {url.port}; a port is 1 to 65535")
    try:
        make_conninfo(**{name: str(value) for name, value in url.query.items()})
    except psycopg.Error as error:
        raise InvalidRequest.at("database_url", f"has an {str(error).strip()}") from None
    url = url.set(drivername="postgresql+psycopg")
    missing = {name: value for name, value in _CONNECTION_PARAMETERS.items() if name not in url.query}
    return url.update_query_dict(missing).render_as_string(hide_password=False)


def unavailable(error: BaseException) -> Unavailable:
    """What the driver said, in one line."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = " ".join(str(cause).split()) or type(cause).__name__
    return Unavailable(f"the database cannot serve this now: {said}")


def is_outage(error: BaseException | None) -> bool:
    """Whether an error says that the database is away or overloaded, rather than that a statement is wrong."""
    if isinstance(error, PoolTimeout | OSError | TimeoutError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_outage(error.orig)
    if isinstance(error, _LIMITS):
        return False
    # OperationalError covers lost connections, shutdown, a full disk, too many connections, serialization failures and
    # deadlocks: all of them pass. A primary that has become a standby is read-only until somebody points us elsewhere.
    return isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError | errors.ReadOnlySqlTransaction
    )


@contextmanager
def translated(engine: Engine) -> Iterator[Connection]:
    """A connection of a short-lived engine. Raises Unavailable when there is none to be had."""
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        if is_outage(error):
            raise unavailable(error) from error
        raise
    finally:
        engine.dispose()


class Database:
    """The pool. Reads go through `read`; the journal and the lease keep a connection of it each."""

    def __init__(self, dsn: str, *, pool_size: int = 8) -> None:
        self._engine = create_async_engine(
            driver_url(dsn), pool_size=pool_size, max_overflow=0, pool_timeout=5, isolation_level="AUTOCOMMIT"
        )

    async def close(self) -> None:
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
        """The driver's own connection, for statements whose cost counts; thrown away if it was broken meanwhile."""
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            try:
                yield driver
            finally:
                if driver.closed or driver.broken:
                    await connection.invalidate()
