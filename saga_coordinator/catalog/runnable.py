"""The definitions that sagas follow, kept in memory once they have been read.

The content of a version is kept for good, since it never changes. Which version a start gets is kept for `NEWEST_KEPT_SECONDS`:
for that long, a start may not notice what another coordinator registered, deprecated, deleted or made the default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

from saga_coordinator.catalog.refusals import deprecated, not_found, nothing_to_start
from saga_coordinator.lifecycle import Background, Service
from saga_coordinator.saga.definition.model import RunnableDefinition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.errors import NotPossibleNow
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.definitions import DefinitionRows
from saga_coordinator.turns import Turns

_Version = tuple[Namespace, str, int]
"""A version of a definition: its namespace, name and number."""

NEWEST_KEPT_SECONDS = 1.0
"""How long a start may go by what it knows of a definition's versions."""
LOADING_SECONDS_MAX = 60.0
"""Nobody waits longer for a definition to be parsed."""


class RunnableDefinitions(Service):
    """Finds the definitions that sagas follow. Used from one event loop."""

    def __init__(self, rows: DefinitionRows, limits: Limits = DEFAULT_LIMITS) -> None:
        self._rows = rows
        self._limits = limits.for_registered()
        self._parsed: dict[_Version, asyncio.Future[RunnableDefinition]] = {}
        self._started: dict[_Version, tuple[float, RunnableDefinition]] = {}
        self._decisions = 0
        self._background = Background()
        self._turns = Turns(
            "definitions of sagas", at_once=2, waiting_max=1000, seconds_max=LOADING_SECONDS_MAX
        )

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep definitions from being parsed."""
        return self._turns.problems

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Waits for no definition any more."""
        await self._background.stop()

    async def get(self, namespace: Namespace, name: str, version: int = 0) -> RunnableDefinition:
        """The content of a version, deleted or not; for 0 of the version that a start gets, or the newest if all are deprecated.

        Raises:
            NotFound: there is no such version, or for 0 none that is not deleted.
            Unavailable: the database is away.
        """
        if not version:
            try:
                return await self.for_start(namespace, name)
            except NotPossibleNow:
                newest = await self._rows.live(namespace, name)
                if newest is None:
                    raise not_found(name, version) from None
                version = newest.version
        parsing = self._parsed.get((namespace, name, version))
        if parsing is not None:
            return await asyncio.shield(parsing)
        registered = await self._rows.version(namespace, name, version)
        if registered is None:
            raise not_found(name, version)
        return await self._parse(namespace, registered)

    async def for_start(self, namespace: Namespace, name: str, version: int = 0) -> RunnableDefinition:
        """The version that a saga may start with now. For 0 that is the default, or else the newest that is not deprecated.

        Raises:
            NotFound: there is no such version, or it was deleted.
            NotPossibleNow: the version is deprecated; the message names the version to use.
            Unavailable: the database is away.
        """
        known_since, known = self._started.get((namespace, name, version), (0.0, None))
        # Both are read before the question, so the answer never counts as younger than it is.
        now, decisions = time.monotonic(), self._decisions
        if known is not None and now < known_since + NEWEST_KEPT_SECONDS:
            return known
        rows = self._rows
        registered = await (
            rows.live(namespace, name, version) if version else rows.startable(namespace, name)
        )
        if registered is None:
            raise await nothing_to_start(self._rows, namespace, name, version)
        if registered.deprecated:
            raise await deprecated(self._rows, namespace, name, version)
        found = await self._parse(namespace, registered)
        if decisions == self._decisions:
            self._started[namespace, name, version] = (now, found)
        return found

    def forget(self, namespace: Namespace, name: str) -> None:
        """Has the next start look the definition up again, so that at least this coordinator goes by what was decided here."""
        self._decisions += 1
        for key in [key for key in self._started if key[:2] == (namespace, name)]:
            del self._started[key]

    async def _parse(self, namespace: Namespace, registered: RegisteredDefinition) -> RunnableDefinition:
        """Parses a version once for all who ask, in another thread: a large one may take seconds."""
        key = (namespace, registered.name, registered.version)
        parsing = self._parsed.get(key)
        if parsing is None:
            work = self._turns.in_thread(_runnable, registered, self._limits)
            parsing = self._parsed[key] = self._background.begin("definition", work)
            parsing.add_done_callback(partial(self._parsing_ended, key))
        return await asyncio.shield(parsing)

    def _parsing_ended(self, key: _Version, parsing: asyncio.Future[RunnableDefinition]) -> None:
        """Forgets a failure, also if whoever asked first has not stayed to hear of it: whoever asks next has it tried again."""
        if parsing.cancelled() or parsing.exception() is not None:
            del self._parsed[key]


def _runnable(registered: RegisteredDefinition, limits: Limits) -> RunnableDefinition:
    return RunnableDefinition(registered.version, parse_definition(registered.spec, limits))
