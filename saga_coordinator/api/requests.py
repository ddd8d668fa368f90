"""What callers send, checked whole: each function gives what its request asks for, or raises InvalidRequest with every fault.

A fault's path is the name of the field in the contract; its description says what would be right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2
from google.protobuf.message import Message

from saga_coordinator.api.convert import OPERATION_KINDS, SAGA_STATUSES
from saga_coordinator.api.pages import DEFAULT_PAGE_SIZE, PAGE_SIZE_MAX
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.participants.payload import PayloadError, check_size, from_value
from saga_coordinator.participants.worker_stream import Greeting
from saga_coordinator.pb.saga.v1 import (
    definition_pb2,
    definition_service_pb2,
    saga_pb2,
    saga_service_pb2,
    worker_service_pb2,
)
from saga_coordinator.saga.declared import declaration_faults
from saga_coordinator.saga.errors import Fault, InvalidDefinition, InvalidRequest
from saga_coordinator.saga.inputs import EventArrived, HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.outcome import TEXT_BYTES_MAX, Cause, Outcome, Refused, Succeeded, Unknown, clip
from saga_coordinator.saga.parsing import parse_definition
from saga_coordinator.saga.parsing_actions import DEADLINE_SECONDS_MAX
from saga_coordinator.saga.token import AttemptNamed, parse_token
from saga_coordinator.store.declared_steps import Declared
from saga_coordinator.store.events import Event
from saga_coordinator.store.sagas import SagaFilter

NAME_CHARACTERS_MAX = 100
START_KEY_CHARACTERS_MAX = 200
STEP_KEY_CHARACTERS_MAX = 1000
EVENT_ID_CHARACTERS_MAX = 200
CORRELATION_CHARACTERS_MAX = 200
PERSON_CHARACTERS_MAX = 200
METHOD_CHARACTERS_MAX = 200
METHODS_MAX = 1000
DECLARED_STEPS_MAX = 200
WORKER_ID_CHARACTERS_MAX = 200
CREDITS_MAX = 10_000
LABELS_MAX = 32
LABEL_KEY_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255

HEADERS_SENT_ON: Mapping[str, int] = {"traceparent": 55, "tracestate": 512, "baggage": 8192}
"""Metadata of a start that every call of the saga carries on, and how long each may be (W3C Trace Context and Baggage)."""

FORWARDED_CHARACTERS_MAX = 1024
"""How long the value of a header may be that is sent on because the settings say so."""

Metadata = Iterable[tuple[str, str | bytes]] | None

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SAGA_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CAUSE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class _Faults:
    """Collects what is wrong with one request."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, path: str, description: str) -> None:
        self.found.append(Fault(path, description))

    def line(self, path: str, value: str, characters_max: int, *, is_required: bool = False) -> str:
        """A text of one line, such as a name or a key."""
        if not value:
            if is_required:
                self.add(path, "is required")
        elif len(value) > characters_max:
            self.add(path, f"has {len(value)} characters; {characters_max} is the limit")
        elif found := _CONTROL.search(value):
            name = unicodedata.name(found[0], f"U+{ord(found[0]):04X}")
            self.add(
                path, f"must not contain control characters; it has {name} at position {found.start() + 1}"
            )
        return value

    def text(self, path: str, value: str, *, is_required: bool = False) -> str:
        """A text for people, of several lines perhaps."""
        if not value.strip():
            if is_required:
                self.add(path, "is required")
        elif "\0" in value:
            self.add(path, "must not contain NUL characters")
        elif (size := len(value.encode())) > TEXT_BYTES_MAX:
            self.add(path, f"has {size} bytes; {TEXT_BYTES_MAX} is the limit")
        return value

    def saga_id(self, value: str) -> str:
        saga_id = value.lower()
        if not value:
            self.add("saga_id", "is required")
        elif not _SAGA_ID.fullmatch(saga_id):
            self.add("saga_id", "must be a UUID, as StartSaga returned it")
        return saga_id

    def version(self, value: int) -> int:
        if value < 0:
            self.add("version", "must be 1 or more, or 0 for the newest")
        return value

    def payload(self, path: str, value: struct_pb2.Value, bytes_max: int) -> Any:
        try:
            payload = from_value(value)
            check_size(payload, bytes_max)
        except PayloadError as error:
            self.found.extend(error.inside(path).faults)
            return None
        return payload

    def seconds(self, path: str, value: duration_pb2.Duration, *, may_be_zero: bool = False) -> float:
        seconds = value.seconds + value.nanos / 1e9
        has_one_sign = (value.seconds >= 0) == (value.nanos >= 0) or not (value.seconds and value.nanos)
        if not has_one_sign or abs(value.nanos) > 999_999_999 or seconds > DEADLINE_SECONDS_MAX:
            self.add(path, f"is no duration of at most {DEADLINE_SECONDS_MAX:.0f} s")
        elif seconds < 0 or (seconds == 0 and not may_be_zero):
            self.add(path, f"is {seconds:g} s; it must be {'0 or more' if may_be_zero else 'more than 0'}")
        return seconds

    def labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        if len(labels) > LABELS_MAX:
            self.add("labels", f"has {len(labels)} labels; {LABELS_MAX} is the limit")
            return {}
        for key, value in labels.items():
            if not key:
                self.add("labels", "has a label without a key")
            self.line(f"labels[{key[:LABEL_KEY_CHARACTERS_MAX]!r}]", key, LABEL_KEY_CHARACTERS_MAX)
            self.line(f"labels[{key[:LABEL_KEY_CHARACTERS_MAX]!r}]", value, LABEL_VALUE_CHARACTERS_MAX)
        return dict(labels)

    def page_size(self, value: int) -> int:
        if not 0 <= value <= PAGE_SIZE_MAX:
            self.add(
                "page_size", f"is {value}; it must be 1 to {PAGE_SIZE_MAX}, or 0 for {DEFAULT_PAGE_SIZE}"
            )
        return value or DEFAULT_PAGE_SIZE

    def credits(self, path: str, value: int, *, may_be_zero: bool = False) -> None:
        least = 0 if may_be_zero else 1
        if not least <= value <= CREDITS_MAX:
            self.add(
                path, f"is {value}; it must be {least} to {CREDITS_MAX}, the number of tasks taken at once"
            )

    def done(self) -> None:
        if self.found:
            raise InvalidRequest(self.found)


def start_saga(
    request: saga_service_pb2.StartSagaRequest,
    payload_bytes_max: int,
    metadata: Metadata = (),
    forwarded: Collection[str] = (),
) -> StartSaga:
    """What is asked for; `forwarded` names the metadata that is sent on beside `HEADERS_SENT_ON`."""
    faults = _Faults()
    asked = StartSaga(
        definition=faults.line("definition", request.definition, NAME_CHARACTERS_MAX, is_required=True),
        version=faults.version(request.version),
        start_key=faults.line("start_key", request.start_key, START_KEY_CHARACTERS_MAX, is_required=True),
        input=faults.payload("input", request.input, payload_bytes_max) if request.HasField("input") else {},
        labels=faults.labels(request.labels) if request.labels else {},
        deadline_seconds=faults.seconds("deadline", request.deadline)
        if request.HasField("deadline")
        else None,
        headers=_headers_sent_on(faults, metadata, forwarded),
    )
    faults.done()
    return asked


def _headers_sent_on(
    faults: _Faults, metadata: Metadata, forwarded: Collection[str]
) -> dict[str, str] | None:
    """The trace context of the caller; what is not fit to be sent on is left out, as the W3C asks of those who pass it on.

    What is `forwarded` may decide what a participant does, so it is not left out but refused.
    """
    found = {
        name: value
        for name, value in metadata or ()  # None where there is none at all
        if name in HEADERS_SENT_ON and isinstance(value, str) and len(value) <= HEADERS_SENT_ON[name]
    }
    for name, value in metadata or ():
        if name in forwarded and name not in HEADERS_SENT_ON and isinstance(value, str):
            if name in found:
                faults.add(f"metadata {name}", "is given twice; it is sent on, so it must mean one thing")
            found[name] = faults.line(f"metadata {name}", value, FORWARDED_CHARACTERS_MAX)
    return found or None


def which_saga(request: saga_service_pb2.GetSagaRequest) -> tuple[str, str]:
    """The saga's id, or its start key; the other is empty."""
    faults = _Faults()
    asked = ("", "")
    if bool(request.saga_id) == bool(request.start_key):
        faults.add("saga_id", "give either saga_id or start_key")
    elif request.saga_id:
        asked = (faults.saga_id(request.saga_id), "")
    else:
        asked = ("", faults.line("start_key", request.start_key, START_KEY_CHARACTERS_MAX))
    if request.log_after_sequence < 0:
        faults.add("log_after_sequence", "must be 0 or more")
    faults.done()
    return asked


def wait_saga(request: saga_service_pb2.WaitSagaRequest) -> tuple[str, float | None]:
    """The saga's id, and the seconds to wait at most, where the request says so."""
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    seconds = (
        faults.seconds("timeout", request.timeout, may_be_zero=True) if request.HasField("timeout") else None
    )
    faults.done()
    return found, seconds


def watch_saga(request: saga_service_pb2.WatchSagaRequest) -> tuple[str, int]:
    """The saga's id, and the sequence behind which to begin."""
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    if request.after_sequence < 0:
        faults.add("after_sequence", "must be 0 or more")
    faults.done()
    return found, request.after_sequence


def cancel_saga(request: saga_service_pb2.CancelSagaRequest) -> tuple[str, str, str]:
    """The saga's id, the reason, and who asks."""
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    reason = faults.text("reason", request.reason, is_required=True)
    requested_by = faults.text("requested_by", request.requested_by)
    faults.done()
    return found, reason, requested_by


def report_outcome(
    request: saga_service_pb2.ReportOutcomeRequest, payload_bytes_max: int
) -> tuple[str, OutcomeReported]:
    """The saga's id, and what became of which operation of it."""
    faults = _Faults()
    named = _attempt(faults, request)
    outcome: Outcome | None = None
    match request.WhichOneof("outcome"):
        case "succeeded":
            outcome = Succeeded(faults.payload("succeeded", request.succeeded, payload_bytes_max))
        case "refused":
            outcome = Refused(_cause(faults, "refused", request.refused, "FAILED_PRECONDITION"))
        case "unknown":
            outcome = Unknown(_cause(faults, "unknown", request.unknown, "UNKNOWN"))
        case _:
            faults.add("outcome", "is required: one of succeeded, refused and unknown")
    faults.done()
    assert named is not None
    assert outcome is not None
    return named.saga_id, OutcomeReported(named.step, named.operation, outcome, named.attempt)


def heartbeat(request: saga_service_pb2.HeartbeatRequest) -> tuple[str, HeartbeatReceived]:
    """The saga's id, and who is still at which operation of it."""
    faults = _Faults()
    named = _attempt(faults, request)
    details = faults.text("details", request.details)
    faults.done()
    assert named is not None
    return named.saga_id, HeartbeatReceived(named.step, named.operation, named.attempt, details)


def _attempt(
    faults: _Faults, request: saga_service_pb2.ReportOutcomeRequest | saga_service_pb2.HeartbeatRequest
) -> AttemptNamed | None:
    """Whose operation is meant, by the token or by three fields, which leave the attempt open."""
    if request.token:
        for path in ("saga_id", "step", "operation"):
            if getattr(request, path):
                faults.add(path, "must not be given beside token, which names it")
        if (named := named_by(request.token)) is None:
            faults.add(
                "token", "is none of ours: send back what came with the call as `saga-token`, unchanged"
            )
        return named
    saga_id = faults.saga_id(request.saga_id)
    step = faults.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    operation = OPERATION_KINDS.get(request.operation)
    if operation is None:
        faults.add("operation", "must be OPERATION_KIND_ACTION or OPERATION_KIND_COMPENSATION")
        return None
    return AttemptNamed(saga_id, step, operation, 0)


def named_by(token: str) -> AttemptNamed | None:
    """The attempt that a token names; None when it is none of ours."""
    try:
        return parse_token(token)
    except ValueError:
        return None


def signal_saga(
    request: saga_service_pb2.SignalSagaRequest, payload_bytes_max: int
) -> tuple[str, EventArrived]:
    """The saga's id, and the event."""
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    event = _event(faults, request.event, payload_bytes_max, is_correlated=False)
    faults.done()
    return found, event


def publish_event(request: saga_service_pb2.PublishEventRequest, payload_bytes_max: int) -> Event:
    faults = _Faults()
    event = _event(faults, request.event, payload_bytes_max, is_correlated=True)
    faults.done()
    return Event(event.event_id, event.name, event.correlation, event.payload)


def _event(
    faults: _Faults, event: saga_service_pb2.Event, payload_bytes_max: int, *, is_correlated: bool
) -> EventArrived:
    correlation = faults.line(
        "event.correlation", event.correlation, CORRELATION_CHARACTERS_MAX, is_required=is_correlated
    )
    return EventArrived(
        faults.line("event.event_id", event.event_id, EVENT_ID_CHARACTERS_MAX, is_required=True),
        faults.line("event.name", event.name, NAME_CHARACTERS_MAX, is_required=True),
        correlation,
        faults.payload("event.payload", event.payload, payload_bytes_max)
        if event.HasField("payload")
        else None,
    )


def decide_approval(request: saga_service_pb2.DecideApprovalRequest) -> tuple[str, str, str, str]:
    """The saga's id, the step, who decides, and their comment."""
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    step = faults.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    decided_by = faults.line("decided_by", request.decided_by, PERSON_CHARACTERS_MAX, is_required=True)
    comment = faults.text("comment", request.comment)
    faults.done()
    return found, step, decided_by, comment


def preview_compensation(request: saga_service_pb2.PreviewCompensationRequest) -> str:
    faults = _Faults()
    found = faults.saga_id(request.saga_id)
    faults.done()
    return found


def _cause(faults: _Faults, path: str, cause: saga_pb2.Cause, default_code: str) -> Cause:
    """What a participant says; long messages are cut, as those of its answers are."""
    code = cause.code or default_code
    if not _CAUSE_CODE.fullmatch(code):
        faults.add(f"{path}.code", f"must be like the name of a gRPC status: {_CAUSE_CODE.pattern}")
    return Cause(code, clip(cause.message))


def greeting(request: worker_service_pb2.WorkRequest) -> Greeting:
    """What a worker says of itself in its first message."""
    if not request.HasField("hello"):
        raise InvalidRequest.at("hello", "is required in the first message")
    faults = _Faults()
    hello = request.hello
    if len(hello.methods) > METHODS_MAX:
        faults.add("hello.methods", f"has {len(hello.methods)} methods; {METHODS_MAX} is the limit")
    else:
        for index, method in enumerate(hello.methods):
            faults.line(f"hello.methods[{index}]", method, METHOD_CHARACTERS_MAX, is_required=True)
    faults.credits("hello.credits", hello.credits)
    welcomed = Greeting(
        participant=faults.line(
            "hello.participant", hello.participant, NAME_CHARACTERS_MAX, is_required=True
        ),
        methods=frozenset(hello.methods),
        credits=hello.credits,
        worker_id=faults.line("hello.worker_id", hello.worker_id, WORKER_ID_CHARACTERS_MAX, is_required=True),
        version=faults.line("hello.version", hello.version, NAME_CHARACTERS_MAX),
    )
    faults.done()
    return welcomed


def credits_of(request: worker_service_pb2.WorkRequest) -> int:
    """How many tasks a worker takes at once from now on."""
    faults = _Faults()
    faults.credits("credits", request.credits, may_be_zero=True)
    faults.done()
    return request.credits


def declared_steps(request: worker_service_pb2.RegisterStepsRequest) -> tuple[str, Declared]:
    """The participant, and what it offers."""
    faults = _Faults()
    participant = faults.line("participant", request.participant, NAME_CHARACTERS_MAX, is_required=True)
    version = faults.line("version", request.version, NAME_CHARACTERS_MAX)
    if len(request.steps) > DECLARED_STEPS_MAX:
        faults.add("steps", f"has {len(request.steps)} steps; {DECLARED_STEPS_MAX} is the limit")
    faults.done()
    steps = _canonical_form(request, faults.found).get("steps", [])
    for index, step in enumerate(request.steps):
        faults.text(f"steps[{index}].description", step.description)
    faults.found += declaration_faults(participant, steps)
    faults.done()
    return participant, Declared(version, {step["name"]: step for step in steps})


def which_participant(request: worker_service_pb2.ListDeclaredStepsRequest) -> str:
    faults = _Faults()
    participant = faults.line("participant", request.participant, NAME_CHARACTERS_MAX, is_required=True)
    faults.done()
    return participant


def saga_filter(request: saga_service_pb2.ListSagasRequest) -> tuple[SagaFilter, int]:
    """The filter, and how many sagas to list."""
    faults = _Faults()
    for index, status in enumerate(request.statuses):
        if status not in SAGA_STATUSES:
            faults.add(f"statuses[{index}]", f"is {status}, which is no status of a saga")
    wanted = SagaFilter(
        statuses=tuple(SAGA_STATUSES[status] for status in request.statuses if status in SAGA_STATUSES),
        definition=faults.line("definition", request.definition, NAME_CHARACTERS_MAX),
        labels=faults.labels(request.labels),
    )
    page_size = faults.page_size(request.page_size)
    faults.done()
    return wanted, page_size


def which_definition(name: str, version: int, *, is_version_required: bool = False) -> tuple[str, int]:
    faults = _Faults()
    asked = (faults.line("name", name, NAME_CHARACTERS_MAX, is_required=True), faults.version(version))
    if is_version_required and not version:
        faults.add("version", "is required")
    faults.done()
    return asked


def definition_list(request: definition_service_pb2.ListDefinitionsRequest) -> tuple[str, int]:
    """The definition whose versions are asked for, empty for all definitions; and how many to list."""
    faults = _Faults()
    asked = (faults.line("name", request.name, NAME_CHARACTERS_MAX), faults.page_size(request.page_size))
    faults.done()
    return asked


_Path = tuple[str | int, ...]


def _take_payloads(message: Message, path: _Path, faults: list[Fault]) -> Iterator[tuple[_Path, Any]]:
    """Takes the payloads out of a message, each with its path: in their canonical form whole numbers would be floats."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            for index, item in enumerate(value):
                yield from _take_payloads(item, (*path, field.name, index), faults)
        elif isinstance(value, struct_pb2.Value | struct_pb2.Struct):
            at = (*path, field.name)
            whole = value if isinstance(value, struct_pb2.Value) else struct_pb2.Value(struct_value=value)
            try:
                yield at, from_value(whole)
            except PayloadError as error:
                for part in reversed(at):
                    error = error.inside(part)
                faults.extend(error.faults)
            message.ClearField(field.name)
        else:
            yield from _take_payloads(value, (*path, field.name), faults)


def _canonical_form(message: Message, faults: list[Fault]) -> dict[str, Any]:
    """The message's JSON form, without the payloads in which there are faults. Raises InvalidDefinition when it has none."""
    bare = type(message)()
    bare.CopyFrom(message)
    payloads = list(_take_payloads(bare, (), faults))
    try:
        spec: dict[str, Any] = json_format.MessageToDict(bare, preserving_proto_field_name=True)
    except (ValueError, json_format.Error) as error:
        raise InvalidDefinition([*faults, Fault("", f"has a value without a JSON form: {error}")]) from None
    for path, payload in payloads:
        place: Any = spec
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = payload
    return spec


def definition_spec(request: Message, definition: definition_pb2.Definition) -> dict[str, Any]:
    """The canonical JSON form of the definition in `request`, with the contract's field names.

    Raises:
        InvalidDefinition: when it has no such form; with the faults that parsing finds besides.
    """
    if not request.HasField("definition"):
        raise InvalidRequest.at("definition", "is required")
    faults: list[Fault] = []
    spec = _canonical_form(definition, faults)
    if faults:
        try:
            parse_definition(spec)
        except InvalidDefinition as error:
            faults.extend(error.faults)
        raise InvalidDefinition(faults)
    return spec
