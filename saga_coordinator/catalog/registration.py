"""Registers definitions: the same content is the same version, changed content is the next version."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from saga_coordinator.catalog.children import child_faults
from saga_coordinator.catalog.declared_steps import DeclaredSteps
from saga_coordinator.catalog.live_check import Findings, check_live
from saga_coordinator.catalog.live_outline import outline_of
from saga_coordinator.catalog.preparing import Prepared, prepare, steps_to_read
from saga_coordinator.catalog.runnable import RunnableDefinitions
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.directory.names import not_known
from saga_coordinator.saga.definition.named_in import participants_named
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition, Unavailable
from saga_coordinator.saga.words.limits import Limits
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.definitions import DefinitionRows
from saga_coordinator.turns import Turns

_TRIES_MAX = 10


@dataclass(frozen=True, slots=True)
class Registered:
    """The result of a registration. `is_new` is False if the newest version has this content; `warnings` are no faults."""

    version: RegisteredDefinition
    is_new: bool
    warnings: list[Fault]


class Registration:
    """Takes definitions from callers. Long work is done in `turns`."""

    def __init__(
        self,
        rows: DefinitionRows,
        declared_steps: DeclaredSteps,
        runnable: RunnableDefinitions,
        participants: Attempts,
        turns: Turns,
        limits: Limits,
    ) -> None:
        self._rows = rows
        self._declared_steps = declared_steps
        self._runnable = runnable
        self._participants = participants
        self._turns = turns
        self._limits = limits

    async def register(self, namespace: Namespace, spec: dict[str, Any]) -> Registered:
        """Stores a definition, given in its canonical JSON form.

        Raises:
            InvalidDefinition: with every fault of it, or with the definitions that it runs and that no saga can start with.
            Unavailable: the database is away.
            Overloaded: too many are being checked.
        """
        prepared = await self._prepared(namespace, spec)
        warnings = await self._unknown_participants(prepared.spec)
        for _ in range(_TRIES_MAX):
            last = await self._rows.last(namespace, prepared.name)
            if last.newest is not None and last.newest.digest == prepared.digest:
                return Registered(last.newest, is_new=False, warnings=warnings)
            if faults := await self._child_faults(namespace, prepared, ()):
                raise InvalidDefinition(faults)
            added = await self._rows.add(
                namespace, prepared.name, last.number + 1, prepared.digest, prepared.written
            )
            if added is not None:
                self._runnable.forget(namespace, prepared.name)
                return Registered(added, is_new=True, warnings=warnings)
        raise Unavailable(
            Reason.CONTENDED, f"definition {prepared.name} is being registered by many at once; try again"
        )

    async def validate(
        self, namespace: Namespace, spec: dict[str, Any], along: Collection[str], *, live: bool
    ) -> Findings:
        """Finds what speaks against registering a definition together with those in `along`; stores nothing.

        With `live`, its participants are asked whether they serve what it calls.

        Raises:
            InvalidDefinition: with every fault of its content.
            Unavailable: the database is away.
            Overloaded: too many are being checked.
        """
        prepared = await self._prepared(namespace, spec)
        if live:
            found = await self._ask_participants(prepared)
        else:
            found = Findings(warnings=await self._unknown_participants(prepared.spec))
        found.faults += await self._child_faults(namespace, prepared, along)
        return found

    async def _prepared(self, namespace: Namespace, spec: dict[str, Any]) -> Prepared:
        uses = await self._turns.in_thread(steps_to_read, spec, self._limits)
        declarations = await self._declared_steps.used(namespace, uses)
        return await self._turns.in_thread(
            prepare, spec, declarations, self._participants.directory.defaults, self._limits
        )

    async def _child_faults(
        self, namespace: Namespace, prepared: Prepared, along: Collection[str]
    ) -> list[Fault]:
        return await child_faults(self._rows, namespace, prepared.children, {prepared.name, *along})

    async def _unknown_participants(self, spec: dict[str, Any]) -> list[Fault]:
        """The faults of participants that the directory does not know; until it knows them, starts are refused."""

        def unknown() -> list[Fault]:
            directory = self._participants.directory
            named = [
                each for each in participants_named(spec) if each.participant not in directory.participants
            ]
            told = {name: not_known(directory, name) for name in {each.participant for each in named}}
            return [Fault(each.path, told[each.participant]) for each in named]

        return await self._turns.in_thread(unknown)

    async def _ask_participants(self, prepared: Prepared) -> Findings:
        outline = await self._turns.in_thread(outline_of, prepared.spec)
        schemas = {
            step: prepared.declarations[use]["output_schema"]
            for step, use in outline.declared.items()
            if "output_schema" in prepared.declarations.get(use, {})
        }
        return await check_live(outline, self._participants, schemas, self._turns)
