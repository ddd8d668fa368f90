"""Counts sagas within a bounded time: exactly, or at least so many."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.errors import QueryCanceled
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.filtering import Predicate, saga_conditions
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.store.tables import sagas

_TRIES: tuple[tuple[int | None, int], ...] = ((None, 120), (100_000, 40), (1_000, 20))
"""How far to count (None: to the end) and in how many milliseconds, as long as the tries before took too long: 180 ms in all."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of sagas. Unless it `is_exact`, there are so many or more."""

    number: int
    is_exact: bool


async def count_sagas(lists: Lists, namespace: Namespace, wanted: SagaFilter) -> Count:
    """The number of sagas that a list with this filter has. Raises as `Lists` does."""
    conditions = saga_conditions(namespace, wanted)

    async def read(connection: AsyncConnection) -> Count:
        await connection.execution_options(isolation_level="READ COMMITTED")
        for rows_max, milliseconds in _TRIES:
            number = await _counted(connection, conditions, rows_max, milliseconds)
            if number is not None:
                return Count(number, is_exact=rows_max is None or number < rows_max)
        return Count(0, is_exact=False)

    return await lists.read(read, lambda count: count)


async def _counted(
    connection: AsyncConnection, conditions: list[Predicate], rows_max: int | None, milliseconds: int
) -> int | None:
    """Counts up to `rows_max`; None if the time is over before."""
    found = select(sagas.c.namespace).where(*conditions).limit(rows_max).subquery()
    try:
        # The time-out ends with the transaction, so whoever has the connection next does not get it.
        async with connection.begin():
            await connection.execute(select(func.set_config("statement_timeout", str(milliseconds), True)))
            number: int = (await connection.execute(select(func.count()).select_from(found))).scalar_one()
            return number
    except DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            return None
        raise
