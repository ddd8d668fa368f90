"""A person's acts on the versions of definitions."""

from __future__ import annotations

from saga_coordinator.catalog.versions import Versions
from saga_coordinator.control.acts import Actor, ActRecorder, new_act, refusals_recorded
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.act import Declaration, Subject, SubjectKind, Verb


class DefinitionActs:
    """Changes what is decided about versions. What each method raises, `Versions` says."""

    def __init__(self, versions: Versions, recorder: ActRecorder) -> None:
        self._versions = versions
        self._recorder = recorder

    async def deprecate(
        self, actor: Actor, declaration: Declaration, name: str, version: int, *, deprecated: bool
    ) -> RegisteredDefinition:
        verb = Verb.DEPRECATE_DEFINITION if deprecated else Verb.REINSTATE_DEFINITION
        act = new_act(actor, declaration, verb, _subject(name, version))
        async with refusals_recorded(self._recorder, act):
            return await self._versions.deprecate(act, name, version, deprecated=deprecated)

    async def set_default(
        self, actor: Actor, declaration: Declaration, name: str, version: int
    ) -> RegisteredDefinition:
        act = new_act(actor, declaration, Verb.SET_DEFAULT_VERSION, _subject(name, version))
        async with refusals_recorded(self._recorder, act):
            return await self._versions.set_default(act, name, version)

    async def delete(self, actor: Actor, declaration: Declaration, name: str, version: int) -> None:
        act = new_act(actor, declaration, Verb.DELETE_DEFINITION, _subject(name, version))
        async with refusals_recorded(self._recorder, act):
            await self._versions.delete(act, name, version)


def _subject(name: str, version: int) -> Subject:
    return Subject(SubjectKind.DEFINITION, name, str(version) if version else "")
