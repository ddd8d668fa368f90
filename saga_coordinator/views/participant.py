"""Participants, their breakers, and the claim groups of coordinators."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from google.protobuf import json_format, timestamp_pb2

from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.participants.calls.bulkhead import BulkheadStatus
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.participants.directory.put_participants import Entry
from saga_coordinator.participants.directory.register import BreakerSetting
from saga_coordinator.participants.live_directory import LiveDirectory
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as pb
from saga_coordinator.saga.words.outcome import Outcome
from saga_coordinator.store.groups import GroupStanding
from saga_coordinator.wire.causes import cause_message
from saga_coordinator.wire.enumerations import (
    BREAKER_CONTROL_NUMBERS,
    BREAKER_STATE_NUMBERS,
    LOAD_BALANCING_NUMBERS,
)
from saga_coordinator.wire.times import duration_of, timestamp_of


class ParticipantViews:
    """Reads participants from the directory and from the gates that their calls go through."""

    def __init__(self, directory: LiveDirectory, attempts: Attempts) -> None:
        self._directory = directory
        self._attempts = attempts

    def status(self, name: str) -> pb.ParticipantStatus:
        """The participant of that name: where it lives, its limits and how its calls go. Raises NotFound."""
        entry = self._directory.get(name)
        message = pb.ParticipantStatus(
            participant=_participant_message(entry),
            source=pb.PARTICIPANT_SOURCE_FILE if entry.spec is None else pb.PARTICIPANT_SOURCE_API,
            connectivity=self._attempts.connections.connectivity(name),
        )
        if entry.updated_at is not None:
            message.updated_at.FromDatetime(entry.updated_at)
        if (setting := self._directory.setting(name)) is not None:
            message.breaker_setting.CopyFrom(setting_message(setting))
        gate = self._attempts.gates.of(name)
        if gate is not None:
            _fill_status(message, gate.status())
        return message


def group_message(group: GroupStanding) -> pb.ClaimGroup:
    """A claim group: who serves it, and what waits for it."""
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
    """The message of a participant, with the limits in force. If its TLS is from a file, only the server's name is known here."""
    participant = entry.participant
    message = pb.Participant(
        name=participant.name,
        target=participant.target,
        worker=participant.is_worker,
        limits=_limits_message(participant.limits),
    )
    if not participant.is_worker:
        message.load_balancing = LOAD_BALANCING_NUMBERS[participant.load_balancing]
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
        window=duration_of(limits.window_seconds),
        calls_min=limits.calls_min,
        failure_ratio=limits.failure_ratio,
        slow_call=None if limits.slow_call_seconds is None else duration_of(limits.slow_call_seconds),
        slow_ratio=limits.slow_ratio,
        rest=duration_of(limits.rest_seconds),
        rest_max=duration_of(limits.rest_seconds_max),
        probes=limits.probes,
    )


def setting_message(setting: BreakerSetting) -> pb.BreakerSetting:
    """The message of an operator's decision about a breaker."""
    return pb.BreakerSetting(
        control=BREAKER_CONTROL_NUMBERS[setting.control],
        requested_by=setting.requested_by,
        reason=setting.reason,
        set_at=timestamp_of(setting.set_at),
    )


def _fill_status(message: pb.ParticipantStatus, status: BulkheadStatus) -> None:
    message.breaker = BREAKER_STATE_NUMBERS[status.breaker]
    if status.rest_left_seconds:
        message.rest_left.CopyFrom(duration_of(status.rest_left_seconds))
    message.calls_in_window = status.calls_in_window
    message.failure_ratio = status.failure_ratio
    message.in_flight = status.in_flight
    message.in_flight_max = status.limit or 0
    message.queued = status.queued
    message.held = status.held
    if status.last_outcome is not None:
        message.last_outcome = _name(status.last_outcome)
        message.last_outcome_at.CopyFrom(_instant(status.last_outcome_at))
    if status.last_failure is not None:
        message.last_failure.CopyFrom(cause_message(status.last_failure))
        message.last_failure_at.CopyFrom(_instant(status.last_failure_at))


def _name(outcome: Outcome) -> str:
    return type(outcome).__name__.upper()


def _instant(monotonic: float) -> timestamp_pb2.Timestamp:
    """The instant of a monotonic time, by this host's clock, which is good enough for people to look at."""
    ago = asyncio.get_running_loop().time() - monotonic
    return timestamp_of(datetime.now(UTC) - timedelta(seconds=ago))
