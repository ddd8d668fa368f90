"""A person's acts on the versions of definitions."""

from __future__ import annotations

from saga_coordinator.catalog.versions import Versions
from saga_coordinator.control.acts import Actor, ActRecorder, new_act, refusals_recorded
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb


class DefinitionActs:
    """Changes what is decided about versions. What each method raises, `Versions` says."""

    def __init__(self, versions: Versions, recorder: ActRecorder) -> None:
        self._versions = versions
        self._recorder = recorder

    async def deprecate(
        self, actor: Actor, name: str, version: int, *, deprecated: bool, declared_by: str, reason: str
    ) -> RegisteredDefinition:
        verb = Verb.DEPRECATE_DEFINITION if deprecated else Verb.REINSTATE_DEFINITION
        act = _act(actor, verb, name, version, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            return await self._versions.deprecate(act, name, version, deprecated=deprecated)

    async def set_default(
        self, actor: Actor, name: str, version: int, *, declared_by: str, reason: str
    ) -> RegisteredDefinition:
        act = _act(actor, Verb.SET_DEFAULT_VERSION, name, version, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            return await self._versions.set_default(act, name, version)

    async def delete(self, actor: Actor, name: str, version: int, *, declared_by: str, reason: str) -> None:
        act = _act(actor, Verb.DELETE_DEFINITION, name, version, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            await self._versions.delete(act, name, version)


def _act(actor: Actor, verb: Verb, name: str, version: int, declared_by: str, reason: str) -> Act:
    detail = str(version) if version else ""
    return new_act(actor, verb, Subject(SubjectKind.DEFINITION, name, detail), declared_by, reason)
