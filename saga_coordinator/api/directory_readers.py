"""What callers of `saga.v1.DirectoryService` send, checked whole: every fault is told at once, with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import duration_pb2, json_format
from google.protobuf.message import Message

from saga_coordinator.api.faults import duration_problem
from saga_coordinator.api.pages import DEFAULT_PAGE_SIZE, PAGE_SIZE_MAX
from saga_coordinator.participants.calls.breaker import Forced
from saga_coordinator.participants.directory.addresses import name_problem
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as pb
from saga_coordinator.saga.words.errors import Fault, InvalidRequest
from saga_coordinator.saga.words.json_object import text_problem
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX

_CONTROLS = {
    pb.BREAKER_CONTROL_AUTOMATIC: Forced.AUTOMATIC,
    pb.BREAKER_CONTROL_OPEN: Forced.OPEN,
    pb.BREAKER_CONTROL_CLOSED: Forced.CLOSED,
}
_LOAD_BALANCING = {
    pb.LOAD_BALANCING_PICK_FIRST: "pick_first",
    pb.LOAD_BALANCING_ROUND_ROBIN: "round_robin",
}


def put_participant(request: pb.PutParticipantRequest) -> tuple[str, dict[str, Any], bytes | None]:
    """The participant's name, what a directory file would say of it, and its descriptor set; the directory checks them."""
    if not request.HasField("participant"):
        raise InvalidRequest.at("participant", "is required")
    given = request.participant
    faults: list[Fault] = []
    spec: dict[str, Any] = {}
    if given.target or not given.worker:
        spec["target"] = given.target
    if given.HasField("tls"):
        spec["tls"] = _as_in_file(given.tls, "tls", faults)
    if given.worker:
        spec["worker"] = True
    if given.load_balancing:
        # What a later contract may add is no name here, and told to be none.
        spec["load_balancing"] = _LOAD_BALANCING.get(given.load_balancing, str(given.load_balancing))
    if given.HasField("limits"):
        spec["limits"] = _as_in_file(given.limits, "limits", faults)
    if given.HasField("defaults"):
        spec["defaults"] = _as_in_file(given.defaults, "defaults", faults)
    faults += _text_faults(spec, "participant")
    _done(faults)
    return given.name, spec, given.descriptor_set or None


def name_of(name: str, path: str) -> str:
    """The name of a participant."""
    faults: list[Fault] = []
    _check_name(name, path, faults)
    _done(faults)
    return name


def page_size(request: pb.ListParticipantsRequest | pb.ListGroupsRequest) -> int:
    """How many a page has."""
    if not 0 <= request.page_size <= PAGE_SIZE_MAX:
        raise InvalidRequest.at(
            "page_size",
            f"is {request.page_size}; it must be 1 to {PAGE_SIZE_MAX}, or 0 for {DEFAULT_PAGE_SIZE}",
        )
    return request.page_size or DEFAULT_PAGE_SIZE


def set_breaker(request: pb.SetBreakerRequest) -> tuple[str, Forced, str, str]:
    """The participant's name, what becomes of its breaker, who asks, and why."""
    faults: list[Fault] = []
    _check_name(request.participant, "participant", faults)
    control = _CONTROLS.get(request.control)
    if control is None:
        names = ", ".join(pb.BreakerControl.Name(number) for number in _CONTROLS)
        faults.append(Fault("control", f"must be one of {names}"))
    _check_text(request.requested_by, "requested_by", faults)
    _check_text(request.reason, "reason", faults, is_required=True)
    _done(faults)
    assert control is not None
    return request.participant, control, request.requested_by, request.reason


def _as_in_file(given: Message, field: str, faults: list[Fault]) -> Any:
    """As a directory file has it: durations are texts there."""
    try:
        return json_format.MessageToDict(given, preserving_proto_field_name=True)
    except (ValueError, OverflowError, json_format.Error):
        faults += _duration_faults(given, f"participant.{field}")
        return {}


def _duration_faults(message: Message, path: str) -> Iterator[Fault]:
    """Of the durations in it that have no JSON form."""
    for field, value in message.ListFields():
        place = f"{path}.{field.name}"
        if isinstance(value, duration_pb2.Duration):
            if problem := duration_problem(value):
                yield Fault(place, problem)
        elif isinstance(value, Message):
            yield from _duration_faults(value, place)


def _text_faults(value: Any, path: str) -> Iterator[Fault]:
    """Every text of the message that cannot be stored, whichever field it is."""
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


def _check_name(name: str, path: str, faults: list[Fault]) -> None:
    if not name:
        faults.append(Fault(path, "is required: the name of a participant"))
    elif problem := name_problem(name):
        faults.append(Fault(path, problem))


def _check_text(value: str, path: str, faults: list[Fault], *, is_required: bool = False) -> None:
    if is_required and not value.strip():
        faults.append(Fault(path, "is required"))
    elif "\0" in value:
        faults.append(Fault(path, "must not contain NUL characters"))
    elif (size := len(value.encode())) > TEXT_BYTES_MAX:
        faults.append(Fault(path, f"has {size} bytes; {TEXT_BYTES_MAX} is the limit"))


def _done(faults: list[Fault]) -> None:
    if faults:
        raise InvalidRequest(faults)
