"""Steps that participants have declared. They are read when a definition that uses some is registered, and not by any saga."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import orjson

from saga_coordinator.saga.definition.declared import (
    Declarations,
    Declared,
    breaking_changes,
    qualified,
    used_steps,
)
from saga_coordinator.saga.words.errors import NotPossibleNow
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.declared_steps import DeclaredStepRows
from saga_coordinator.store.definitions import DefinitionRows, Using
from saga_coordinator.turns import Turns

USERS_SHOWN_MAX = 10


class DeclaredSteps:
    """Keeps the steps that participants declare. Every method raises Unavailable when the database is away."""

    def __init__(self, rows: DeclaredStepRows, definitions: DefinitionRows, turns: Turns) -> None:
        """Takes `turns`, in which long work is done."""
        self._rows = rows
        self._definitions = definitions
        self._turns = turns

    async def used(self, namespace: Namespace, uses: Collection[str]) -> Declarations:
        """The declared steps of the participants that occur in `uses`. Each use is written PARTICIPANT.STEP."""
        participants = {use.rpartition(".")[0] for use in uses}
        return await self._rows.of_all(namespace, participants) if participants else {}

    async def replace(
        self, namespace: Namespace, participant: str, declared: Declared, *, force: bool
    ) -> bool:
        """Replaces the steps that the participant offers; returns False if it offered exactly these before.

        A definition that is registered at the same moment may use a step that is being removed, as with `force`.

        Raises:
            NotPossibleNow: definitions that sagas can start with use steps that would be gone; the message lists them.
        """
        before = await self._rows.of(namespace, participant)
        if before == declared:
            return False
        if not force:
            await self._refuse_if_breaking(namespace, participant, before, declared)
        await self._rows.replace(namespace, participant, declared)
        return True

    async def _refuse_if_breaking(
        self, namespace: Namespace, participant: str, before: Declared, after: Declared
    ) -> None:
        old, new = (
            {qualified(participant, name): spec for name, spec in declared.steps.items()}
            for declared in (before, after)
        )
        broken = await self._turns.in_thread(breaking_changes, old, new)
        if not broken:
            return
        using = await self._definitions.using(namespace, participant, broken)
        breaks = await self._turns.in_thread(_breaks, using, broken)
        if breaks:
            more = len(breaks) - USERS_SHOWN_MAX
            raise NotPossibleNow(
                Reason.STEPS_IN_USE,
                f"definitions would break: {'; '.join(breaks[:USERS_SHOWN_MAX])}"
                f"{f'; and {more} more at least' if more > 0 else ''}. Register them anew without it and "
                "deprecate these versions, or give force: sagas of these versions go on as they are",
                participant=participant,
            )


def _breaks(using: Sequence[Using], broken: Mapping[str, str]) -> list[str]:
    """A sentence for each version on what would break in it."""
    return [
        f"{each.name} version {each.version} uses {use}, which {broken[use]}"
        for each in using
        for use in sorted(used_steps(orjson.loads(each.written)) & broken.keys())
    ]
