"""A person's acts on participants and their breakers."""

from __future__ import annotations

from typing import Any

from saga_coordinator.control.acts import Actor, ActRecorder, new_act, refusals_recorded
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import Participant
from saga_coordinator.participants.directory.register import BreakerSetting
from saga_coordinator.participants.live_directory import LiveDirectory
from saga_coordinator.saga.words.act import Declaration, Subject, SubjectKind, Verb


class ParticipantActs:
    """Changes the directory. What each method raises, `LiveDirectory` says."""

    def __init__(self, directory: LiveDirectory, recorder: ActRecorder) -> None:
        self._directory = directory
        self._recorder = recorder

    async def put(
        self,
        actor: Actor,
        declaration: Declaration,
        participant: Participant,
        spec: dict[str, Any],
        descriptor_set: bytes | None,
    ) -> bool:
        act = new_act(actor, declaration, Verb.PUT_PARTICIPANT, _subject(participant.name))
        async with refusals_recorded(self._recorder, act):
            return await self._directory.put(act, participant, spec, descriptor_set)

    async def delete(self, actor: Actor, declaration: Declaration, name: str) -> None:
        act = new_act(actor, declaration, Verb.DELETE_PARTICIPANT, _subject(name))
        async with refusals_recorded(self._recorder, act):
            await self._directory.delete(act, name)

    async def set_breaker(
        self, actor: Actor, declaration: Declaration, name: str, control: Forced
    ) -> BreakerSetting:
        act = new_act(actor, declaration, Verb.SET_BREAKER, _subject(name))
        async with refusals_recorded(self._recorder, act):
            return await self._directory.set_breaker(act, name, control)


def _subject(name: str) -> Subject:
    return Subject(SubjectKind.PARTICIPANT, name)
