"""Reads requests of `saga.v1.DirectoryService` and checks them whole: every fault is told at once, with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import duration_pb2, json_format
from google.protobuf.message import Message

from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import name_problem
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as pb
from saga_coordinator.saga.words.act import Declaration
from saga_coordinator.saga.words.errors import Fault, InvalidRequest
from saga_coordinator.saga.words.json_object import text_problem
from saga_coordinator.wire.enumerations import BREAKER_CONTROLS, LOAD_BALANCINGS
from saga_coordinator.wire.field_checks import FieldChecks
from saga_coordinator.wire.times import duration_problem


def put_participant(
    request: pb.PutParticipantRequest,
) -> tuple[str, dict[str, Any], bytes | None, Declaration]:
    """The participant's name, what a directory file would say of it, and its descriptor set, all of which the directory checks;
    and what the caller says of the act.
    """
    if not request.HasField("participant"):
        raise InvalidRequest.at("participant", "is required")
    given = request.participant
    checks = FieldChecks()
    spec: dict[str, Any] = {}
    if given.target or not given.worker:
        spec["target"] = given.target
    if given.HasField("tls"):
        spec["tls"] = _as_in_file(given.tls, "tls", checks.found)
    if given.worker:
        spec["worker"] = True
    if given.load_balancing:
        # A field that a later contract adds has no name here, and is told to be unknown.
        spec["load_balancing"] = LOAD_BALANCINGS.get(given.load_balancing, str(given.load_balancing))
    if given.HasField("limits"):
        spec["limits"] = _as_in_file(given.limits, "limits", checks.found)
    if given.HasField("defaults"):
        spec["defaults"] = _as_in_file(given.defaults, "defaults", checks.found)
    checks.found += _text_faults(spec, "participant")
    declaration = checks.declaration(request)
    checks.done()
    return given.name, spec, given.descriptor_set or None, declaration


def which_participant(request: pb.GetParticipantRequest) -> str:
    """The name of a participant."""
    checks = FieldChecks()
    _check_name(checks, "name", request.name)
    checks.done()
    return request.name


def delete_participant(request: pb.DeleteParticipantRequest) -> tuple[str, Declaration]:
    """The name of the participant, and what the caller says of the act."""
    checks = FieldChecks()
    _check_name(checks, "name", request.name)
    declaration = checks.declaration(request)
    checks.done()
    return request.name, declaration


def page_size(request: pb.ListParticipantsRequest | pb.ListGroupsRequest) -> int:
    """How many participants or groups a page has."""
    checks = FieldChecks()
    size = checks.page_size(request.page_size)
    checks.done()
    return size


def set_breaker(request: pb.SetBreakerRequest) -> tuple[str, Forced, Declaration]:
    """The participant's name, what to do with its breaker, and what the caller says of the act."""
    checks = FieldChecks()
    _check_name(checks, "participant", request.participant)
    control = BREAKER_CONTROLS.get(request.control)
    if control is None:
        names = ", ".join(pb.BreakerControl.Name(number) for number in pb.BreakerControl.values() if number)
        checks.add("control", f"must be one of {names}")
    declaration = checks.declaration(request, is_reason_required=True)
    checks.done()
    assert control is not None
    return request.participant, Forced(control), declaration


def _as_in_file(given: Message, field: str, faults: list[Fault]) -> Any:
    """The message as a directory file writes it, with durations as texts."""
    try:
        return json_format.MessageToDict(given, preserving_proto_field_name=True)
    except (ValueError, OverflowError, json_format.Error):
        faults += _duration_faults(given, f"participant.{field}")
        return {}


def _duration_faults(message: Message, path: str) -> Iterator[Fault]:
    """The faults of durations in the message that have no JSON form."""
    for field, value in message.ListFields():
        place = f"{path}.{field.name}"
        if isinstance(value, duration_pb2.Duration):
            if problem := duration_problem(value):
                yield Fault(place, problem)
        elif isinstance(value, Message):
            yield from _duration_faults(value, place)


def _text_faults(value: Any, path: str) -> Iterator[Fault]:
    """The faults of all texts in the message that cannot be stored."""
    match value:
        case str():
            if problem := text_problem(value):
                yield Fault(path, problem)
        case dict():
            for name, inner in value.items():
                yield from _text_faults(inner, f"{path}.{name}")
        case list():
            for index, inner in enumerate(value):
                yield from _text_faults(inner, f"{path}[{index}]")
        case _:
            pass


def _check_name(checks: FieldChecks, path: str, name: str) -> None:
    if not name:
        checks.add(path, "is required: the name of a participant")
    elif problem := name_problem(name):
        checks.add(path, problem)
