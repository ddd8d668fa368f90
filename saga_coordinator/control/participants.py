"""A person's acts on participants and their breakers."""

from __future__ import annotations

from typing import Any

from saga_coordinator.control.acts import Actor, ActRecorder, new_act, refusals_recorded
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import Participant
from saga_coordinator.participants.live_directory import BreakerSetting, LiveDirectory
from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb


class ParticipantActs:
    """Changes the directory. What each method raises, `LiveDirectory` says."""

    def __init__(self, directory: LiveDirectory, recorder: ActRecorder) -> None:
        self._directory = directory
        self._recorder = recorder

    async def put(
        self,
        actor: Actor,
        participant: Participant,
        spec: dict[str, Any],
        descriptor_set: bytes | None,
        *,
        declared_by: str,
        reason: str,
    ) -> bool:
        act = _act(actor, Verb.PUT_PARTICIPANT, participant.name, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            return await self._directory.put(act, participant, spec, descriptor_set)

    async def delete(self, actor: Actor, name: str, *, declared_by: str, reason: str) -> None:
        act = _act(actor, Verb.DELETE_PARTICIPANT, name, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            await self._directory.delete(act, name)

    async def set_breaker(
        self, actor: Actor, name: str, control: Forced, *, declared_by: str, reason: str
    ) -> BreakerSetting:
        act = _act(actor, Verb.SET_BREAKER, name, declared_by, reason)
        async with refusals_recorded(self._recorder, act):
            return await self._directory.set_breaker(act, name, control)


def _act(actor: Actor, verb: Verb, name: str, declared_by: str, reason: str) -> Act:
    return new_act(actor, verb, Subject(SubjectKind.PARTICIPANT, name), declared_by, reason)
