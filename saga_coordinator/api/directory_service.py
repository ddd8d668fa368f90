"""`saga.v1.DirectoryService`."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

from google.protobuf import duration_pb2, json_format, timestamp_pb2

from saga_coordinator.api import directory_readers as readers
from saga_coordinator.api.convert import cause_message
from saga_coordinator.api.pages import RESPONSE_BYTES_MAX, fill_page, page_token, position_of
from saga_coordinator.api.rpc import Context, unhindered
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.breaker import BreakerState, Forced
from saga_coordinator.participants.calls.bulkhead import Standing
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.participants.live_directory import BreakerSetting, Entry, LiveDirectory
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as pb
from saga_coordinator.saga.words.errors import NotFound, Resource
from saga_coordinator.saga.words.outcome import Outcome
from saga_coordinator.store.groups import GroupStanding
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DirectoryService"]

_STATES = {state: pb.BreakerState.Value(f"BREAKER_STATE_{state}") for state in BreakerState}
_CONTROLS = {forced: pb.BreakerControl.Value(f"BREAKER_CONTROL_{forced}") for forced in Forced}
STATUSES_AT_ONCE = 50
"""How many participants of a page are looked at before others get their turn: some milliseconds."""

_LOAD_BALANCING = {
    "pick_first": pb.LOAD_BALANCING_PICK_FIRST,
    "round_robin": pb.LOAD_BALANCING_ROUND_ROBIN,
}


class DirectoryService:
    """One method per RPC; the contract says what each does."""

    def __init__(self, directory: LiveDirectory, participants: Attempts, lists: Lists) -> None:
        self._directory = directory
        self._participants = participants
        self._lists = lists

    def resource(self, request: object) -> Resource | None:
        match request:
            case pb.GetParticipantRequest() | pb.DeleteParticipantRequest():
                return Resource("saga.v1.Participant", request.name)
            case _:
                return None

    async def PutParticipant(  # noqa: N802  # the RPC's name
        self, request: pb.PutParticipantRequest, context: Context
    ) -> pb.PutParticipantResponse:
        name, spec, described = readers.put_participant(request)
        participant = await self._directory.check(name, spec, described)
        created = await unhindered(self._directory.put(participant, spec, described))
        return pb.PutParticipantResponse(created=created)

    async def GetParticipant(  # noqa: N802
        self, request: pb.GetParticipantRequest, context: Context
    ) -> pb.GetParticipantResponse:
        return pb.GetParticipantResponse(status=self._status(readers.name_of(request.name, "name")))

    async def ListParticipants(  # noqa: N802
        self, request: pb.ListParticipantsRequest, context: Context
    ) -> pb.ListParticipantsResponse:
        page_size = readers.page_size(request)
        after = position_of(request, request.page_token) or ""
        all_names = self._directory.names
        first = bisect_right(all_names, after)
        names = all_names[first : first + page_size]
        response = pb.ListParticipantsResponse()
        room, listed, has_more = RESPONSE_BYTES_MAX, after, first + page_size < len(all_names)
        for count, name in enumerate(names):
            if count and not count % STATUSES_AT_ONCE:
                await asyncio.sleep(0)
            if (status := self._status_if_known(name)) is None:
                continue
            room -= status.ByteSize()
            if room < 0 and response.statuses:
                has_more = True
                break
            response.statuses.append(status)
            listed = name
        if has_more and listed:
            response.next_page_token = page_token(request, listed)
        return response

    def _status_if_known(self, name: str) -> pb.ParticipantStatus | None:
        try:
            return self._status(name)
        except NotFound:  # deleted while the page was made
            return None

    async def DeleteParticipant(  # noqa: N802
        self, request: pb.DeleteParticipantRequest, context: Context
    ) -> pb.DeleteParticipantResponse:
        await unhindered(self._directory.delete(readers.name_of(request.name, "name")))
        return pb.DeleteParticipantResponse()

    async def SetBreaker(  # noqa: N802
        self, request: pb.SetBreakerRequest, context: Context
    ) -> pb.SetBreakerResponse:
        name, control, requested_by, reason = readers.set_breaker(request)
        setting = await unhindered(self._directory.set_breaker(name, control, requested_by, reason))
        return pb.SetBreakerResponse(setting=_setting_message(setting))

    async def ListGroups(  # noqa: N802
        self, request: pb.ListGroupsRequest, context: Context
    ) -> pb.ListGroupsResponse:
        page_size = readers.page_size(request)
        after = position_of(request, request.page_token) or ""

        def answer(page: Page[GroupStanding]) -> pb.ListGroupsResponse:
            response = pb.ListGroupsResponse()
            response.next_page_token = fill_page(
                request, page, response.groups, _group_message, lambda group: group.name
            )
            return response

        return await self._lists.groups(after, page_size, answer)

    def _status(self, name: str) -> pb.ParticipantStatus:
        entry = self._directory.get(name)
        message = pb.ParticipantStatus(
            participant=_participant_message(entry),
            source=pb.PARTICIPANT_SOURCE_FILE if entry.spec is None else pb.PARTICIPANT_SOURCE_API,
            connectivity=self._participants.connectivity(name),
        )
        if entry.updated_at is not None:
            message.updated_at.FromDatetime(entry.updated_at)
        if (setting := self._directory.setting(name)) is not None:
            message.breaker_setting.CopyFrom(_setting_message(setting))
        gate = self._participants.gates.of(name)
        if gate is not None:
            _fill_standing(message, gate.standing())
        return message


def _group_message(group: GroupStanding) -> pb.ClaimGroup:
    message = pb.ClaimGroup(
        name=group.name,
        served=group.coordinators > 0,
        coordinators_alive=group.coordinators,
        coordinators=[
            pb.GroupCoordinator(
                coordinator_id=each.coordinator_id, address=each.address, version=each.version
            )
            for each in group.listed
        ],
        sagas_waiting=group.waiting,
    )
    if group.waiting_since is not None:
        message.waiting_since.FromDatetime(group.waiting_since)
    return message


def _participant_message(entry: Entry) -> pb.Participant:
    """With the limits that are in force. Of TLS from a file only the server's name is known here."""
    participant = entry.participant
    message = pb.Participant(
        name=participant.name,
        target=participant.target,
        worker=participant.is_worker,
        limits=_limits_message(participant.limits),
    )
    if not participant.is_worker:
        message.load_balancing = _LOAD_BALANCING[participant.load_balancing]
    if participant.defaults:
        json_format.ParseDict(dict(participant.defaults), message.defaults)
    if participant.tls is not None:
        given = (entry.spec or {}).get("tls") or {"server_name": participant.tls.server_name}
        message.tls.CopyFrom(pb.ParticipantTls(**given))
    return message


def _limits_message(limits: ParticipantLimits) -> pb.ParticipantLimits:
    return pb.ParticipantLimits(
        concurrency=limits.concurrency or 0,
        adaptive=limits.is_adaptive,
        rate=limits.rate or 0.0,
        burst=0 if limits.rate is None else limits.burst,
        breaker=_policy_message(limits.breaker),
    )


def _policy_message(limits: BreakerLimits) -> pb.BreakerPolicy:
    return pb.BreakerPolicy(
        off=not limits.is_on,
        window=_duration(limits.window_seconds),
        calls_min=limits.calls_min,
        failure_ratio=limits.failure_ratio,
        slow_call=None if limits.slow_call_seconds is None else _duration(limits.slow_call_seconds),
        slow_ratio=limits.slow_ratio,
        rest=_duration(limits.rest_seconds),
        rest_max=_duration(limits.rest_seconds_max),
        probes=limits.probes,
    )


def _setting_message(setting: BreakerSetting) -> pb.BreakerSetting:
    return pb.BreakerSetting(
        control=_CONTROLS[Forced(setting.control)],
        requested_by=setting.requested_by,
        reason=setting.reason,
        set_at=_timestamp(setting.set_at),
    )


def _fill_standing(message: pb.ParticipantStatus, standing: Standing) -> None:
    message.breaker = _STATES[standing.breaker]
    if standing.rest_left_seconds:
        message.rest_left.CopyFrom(_duration(standing.rest_left_seconds))
    message.calls_in_window = standing.calls_in_window
    message.failure_ratio = standing.failure_ratio
    message.in_flight = standing.in_flight
    message.in_flight_max = standing.limit or 0
    message.queued = standing.queued
    message.held = standing.held
    if standing.last_outcome is not None:
        message.last_outcome = _name(standing.last_outcome)
        message.last_outcome_at.CopyFrom(_instant(standing.last_outcome_at))
    if standing.last_failure is not None:
        message.last_failure.CopyFrom(cause_message(standing.last_failure))
        message.last_failure_at.CopyFrom(_instant(standing.last_failure_at))


def _name(outcome: Outcome) -> str:
    return type(outcome).__name__.upper()


def _instant(monotonic: float) -> timestamp_pb2.Timestamp:
    """By this host's clock, which is good enough for people to look at."""
    ago = asyncio.get_running_loop().time() - monotonic
    return _timestamp(datetime.now(UTC) - timedelta(seconds=ago))


def _timestamp(instant: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(instant)
    return message


def _duration(seconds: float) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message
