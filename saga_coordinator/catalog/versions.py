"""Carries out what people decide about a definition's versions: which of them sagas may start with, and which are gone."""

from __future__ import annotations

from asyncio import sleep
from dataclasses import replace
from secrets import randbits
from time import time

from saga_coordinator.catalog.refusals import not_found, nothing_to_start
from saga_coordinator.catalog.runnable import NEWEST_KEPT_SECONDS, RunnableDefinitions
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.act import Act, Verb
from saga_coordinator.saga.words.errors import NotPossibleNow
from saga_coordinator.saga.words.identity import uuid7
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.definitions import DefinitionRows

START_SECONDS = 1.0
"""How long a start may take from its look at the definition to its commit, for a deletion to notice it."""
NOTICED_SECONDS = NEWEST_KEPT_SECONDS + START_SECONDS
"""After so long, no start that had not noticed a deletion is still to be committed."""


class Versions:
    """Shows the versions of definitions, and changes what is decided about them."""

    def __init__(self, rows: DefinitionRows, runnable: RunnableDefinitions) -> None:
        self._rows = rows
        self._runnable = runnable

    async def look_up(self, namespace: Namespace, name: str, version: int = 0) -> RegisteredDefinition:
        """A version, or the newest for 0, with what is decided about it at this moment. Raises NotFound and Unavailable."""
        registered = await self._rows.live(namespace, name, version)
        if registered is None:
            raise not_found(name, version)
        return registered

    async def deprecate(self, act: Act, name: str, version: int, *, deprecated: bool) -> RegisteredDefinition:
        """Lets no more sagas start with the version, or lets them again; `act` is recorded with what it does.

        Raises:
            NotFound: there is no such version.
            NotPossibleNow: it is the default.
            Unavailable: the database is away.
        """
        namespace = act.namespace
        is_done = await self._rows.deprecate(act, name, version, deprecated=deprecated)
        self._runnable.forget(namespace, name)
        if not is_done:
            raise await self._is_default(namespace, name, version, "deprecated")
        return await self.look_up(namespace, name, version)

    async def set_default(self, act: Act, name: str, version: int) -> RegisteredDefinition:
        """Makes starts that name no version use this one, or for 0 the newest again; returns the version that they use now.

        Raises:
            NotFound: there is no such definition or version.
            NotPossibleNow: the version is deprecated, or, for 0, all are.
            Unavailable: the database is away.
        """
        namespace = act.namespace
        is_done = await self._rows.set_default(act, name, version)
        self._runnable.forget(namespace, name)
        if not is_done and version:
            await self.look_up(namespace, name, version)  # which says so if there is none
            raise NotPossibleNow(
                Reason.DEFINITION_DEPRECATED,
                f"version {version} of definition `{name}` is deprecated; take the deprecation back before you make it "
                "the default",
                definition=name,
                version=str(version),
            )
        used = await self._rows.startable(namespace, name)
        if used is None:
            raise await nothing_to_start(self._rows, namespace, name, version)
        return used

    async def delete(self, act: Act, name: str, version: int) -> None:
        """Removes a version that no saga refers to. Where one began to meanwhile, taking it back is an act of the coordinator.

        The row stays, marked: its number must not come to mean something else, and a coordinator that stood still while this
        was decided may yet commit a start, which then goes on as any other. All coordinators that move have noticed before the
        last look for sagas.

        Raises:
            NotFound: there is no such version.
            NotPossibleNow: a saga refers to it, or it is the default.
            Unavailable: the database is away; the version may be deleted all the same. Repeating finishes it.
        """
        namespace = act.namespace
        registered = await self._rows.version(namespace, name, version)
        if registered is None:
            raise not_found(name, version)
        await self._refuse_if_used(namespace, registered)
        is_done = await self._rows.delete(act, name, version)
        self._runnable.forget(namespace, name)
        if not is_done:
            raise await self._is_default(namespace, name, version, "deleted")
        await sleep(NOTICED_SECONDS)
        try:
            await self._refuse_if_used(namespace, registered)
        except NotPossibleNow:
            await self._rows.restore(_taken_back(act), name, version)
            raise

    async def _is_default(self, namespace: Namespace, name: str, version: int, what: str) -> NotPossibleNow:
        """The error that the version is the default, so nothing was done. Raises NotFound if there is no such version."""
        await self.look_up(namespace, name, version)
        return NotPossibleNow(
            Reason.DEFINITION_IS_DEFAULT,
            f"version {version} of definition `{name}` is the default, and cannot be {what}: make another one the default "
            "first, or 0 to have the newest that is not deprecated",
            definition=name,
            version=str(version),
        )

    async def _refuse_if_used(self, namespace: Namespace, registered: RegisteredDefinition) -> None:
        saga_id = await self._rows.saga_of(namespace, registered)
        if saga_id is not None:
            raise NotPossibleNow(
                Reason.DEFINITION_IN_USE,
                f"version {registered.version} of definition `{registered.name}` cannot be deleted: saga {saga_id} refers to "
                "it, and maybe others; deprecate it instead",
                definition=registered.name,
                version=str(registered.version),
                saga_id=saga_id,
            )


def _taken_back(act: Act) -> Act:
    """The act that takes a deletion back."""
    return replace(
        act,
        act_id=uuid7(time(), randbits),
        verb=Verb.RESTORE_DEFINITION,
        declared_by="saga-coordinator",
        reason="a saga began to refer to the version",
    )
