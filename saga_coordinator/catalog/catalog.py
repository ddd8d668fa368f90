"""Everything that a coordinator knows of definitions, wired together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Self

from saga_coordinator.catalog.declared_steps import DeclaredSteps
from saga_coordinator.catalog.registration import Registration
from saga_coordinator.catalog.runnable import RunnableDefinitions
from saga_coordinator.catalog.versions import Versions
from saga_coordinator.lifecycle import Service
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.store.database import Database
from saga_coordinator.store.declared_steps import DeclaredStepRows
from saga_coordinator.store.definitions import DefinitionRows
from saga_coordinator.turns import Turns

GIVEN_SECONDS_MAX = 60.0
"""Nobody waits longer for a definition that was given to be checked."""


@dataclass(frozen=True)
class Catalog(Service):
    """The definitions of one coordinator: a version that is registered here is in the memory that starts look into first.

    Attributes:
        turns: at definitions that callers give; a flood of these does not delay the definitions that sagas follow.
    """

    turns: Turns
    runnable: RunnableDefinitions
    versions: Versions
    declared_steps: DeclaredSteps
    registration: Registration

    @classmethod
    def of(cls, database: Database, participants: Attempts, limits: Limits = DEFAULT_LIMITS) -> Self:
        """The catalog that a database holds; `participants` say whom the directory knows."""
        turns = Turns("definitions that were given", at_once=2, waiting_max=64, seconds_max=GIVEN_SECONDS_MAX)
        rows = DefinitionRows(database)
        runnable = RunnableDefinitions(rows, limits)
        declared_steps = DeclaredSteps(DeclaredStepRows(database), rows, turns)
        registration = Registration(rows, declared_steps, runnable, participants, turns, limits)
        return cls(turns, runnable, Versions(rows, runnable), declared_steps, registration)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Waits for no definition any more."""
        await self.runnable.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps definitions from being checked or parsed."""
        return chain(self.turns.problems, self.runnable.problems)
