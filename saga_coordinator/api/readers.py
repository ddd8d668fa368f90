"""What callers send, checked whole: each function gives what its request asks for, or raises InvalidRequest with every fault.

A fault's path is the name of the field in the contract; its description says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2
from google.protobuf.message import Message

from saga_coordinator.api.convert import OPERATION_KINDS, SAGA_STATUSES
from saga_coordinator.api.faults import Faults, duration_problem, path_of
from saga_coordinator.api.rpc import parsed
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.participants.workers.stream import Greeting
from saga_coordinator.pb.saga.v1 import (
    definition_pb2,
    definition_service_pb2,
    saga_pb2,
    saga_service_pb2,
    worker_service_pb2,
)
from saga_coordinator.saga.definition.declared import Declared, declaration_faults
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    CancelAsked,
    EventArrived,
    HeartbeatReceived,
    OutcomeReported,
)
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition, InvalidRequest
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.outcome import Cause, Outcome, Refused, Succeeded, Unknown, clip
from saga_coordinator.saga.words.token import AttemptNamed, parse_token
from saga_coordinator.store.lists import EventFilter
from saga_coordinator.store.records import Event
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.wire.json_names import json_form
from saga_coordinator.wire.not_before import duration_asked
from saga_coordinator.wire.payload import PayloadError, from_value, too_large
from saga_coordinator.wire.unparsed import fields, largest_payload, number_of

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
WORKER_MESSAGE_BYTES_MIN = 64 * 1024

HEADERS_SENT_ON: Mapping[str, int] = {"traceparent": 55, "tracestate": 512, "baggage": 8192}
"""Metadata of a start that every call of the saga carries on, and how long each may be (W3C Trace Context and Baggage)."""

FORWARDED_CHARACTERS_MAX = 1024
"""How long the value of a header may be that is sent on because the settings say so."""

_TASK_OUTCOME = worker_service_pb2.TaskOutcome.DESCRIPTOR
_TASK_ID = _TASK_OUTCOME.fields_by_name["task_id"].number
_OUTCOMES = worker_service_pb2.WorkRequest.DESCRIPTOR.fields_by_name["outcomes"].number

Metadata = Iterable[tuple[str, str | bytes]] | None

_CAUSE_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Oversized:
    """An outcome whose output is too large: of which task, and why it is not taken."""

    task_id: int
    error: PayloadError


def start_saga(
    request: saga_service_pb2.StartSagaRequest,
    payload_bytes_max: int,
    metadata: Metadata = (),
    forwarded: Collection[str] = (),
) -> StartSaga:
    """What is asked for; `forwarded` names the metadata that is sent on beside `HEADERS_SENT_ON`."""
    faults = Faults()
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


def _headers_sent_on(faults: Faults, metadata: Metadata, forwarded: Collection[str]) -> dict[str, str] | None:
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
    faults = Faults()
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
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    seconds = (
        faults.seconds("timeout", request.timeout, may_be_zero=True) if request.HasField("timeout") else None
    )
    faults.done()
    return found, seconds


def watch_saga(request: saga_service_pb2.WatchSagaRequest) -> tuple[str, int]:
    """The saga's id, and the sequence behind which to begin."""
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    if request.after_sequence < 0:
        faults.add("after_sequence", "must be 0 or more")
    faults.done()
    return found, request.after_sequence


def cancel_saga(request: saga_service_pb2.CancelSagaRequest) -> tuple[str, CancelAsked]:
    """The saga's id, and why and for whom it is cancelled."""
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    reason = faults.text("reason", request.reason, is_required=True)
    requested_by = faults.text("requested_by", request.requested_by)
    faults.done()
    return found, CancelAsked(reason, requested_by)


def report_outcome(
    request: saga_service_pb2.ReportOutcomeRequest, payload_bytes_max: int
) -> tuple[str, OutcomeReported]:
    """The saga's id, and what became of which operation of it."""
    faults = Faults()
    named = _attempt(faults, request)
    outcome: Outcome | None = None
    match request.WhichOneof("outcome"):
        case "success":
            output = request.success.output
            outcome = Succeeded(faults.payload("success.output", output, payload_bytes_max))
        case "succeeded":
            outcome = Succeeded(faults.payload("succeeded", request.succeeded, payload_bytes_max))
        case "refused":
            cause = _cause(faults, "refused", request.refused, "FAILED_PRECONDITION")
            outcome = Refused(cause, retry_after_seconds=duration_asked(request.retry_after))
        case "unknown":
            cause = _cause(faults, "unknown", request.unknown, "UNKNOWN")
            outcome = Unknown(cause, duration_asked(request.retry_after))
        case _:
            faults.add(
                "outcome",
                "is required: one of success, refused and unknown. Without an output it is `success` with nothing in it; "
                "`succeeded` with a null is no outcome at all in many languages",
            )
    faults.done()
    assert named is not None
    assert outcome is not None
    return named.saga_id, OutcomeReported(named.step, named.operation, outcome, named.attempt)


def heartbeat(request: saga_service_pb2.HeartbeatRequest) -> tuple[str, HeartbeatReceived]:
    """The saga's id, and who is still at which operation of it."""
    faults = Faults()
    named = _attempt(faults, request)
    details = faults.text("details", request.details)
    faults.done()
    assert named is not None
    return named.saga_id, HeartbeatReceived(named.step, named.operation, named.attempt, details)


def _attempt(
    faults: Faults, request: saga_service_pb2.ReportOutcomeRequest | saga_service_pb2.HeartbeatRequest
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
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    event = _event(faults, request.event, payload_bytes_max, is_correlated=False)
    faults.done()
    return found, event


def publish_event(request: saga_service_pb2.PublishEventRequest, payload_bytes_max: int) -> Event:
    faults = Faults()
    event = _event(faults, request.event, payload_bytes_max, is_correlated=True)
    keep_seconds = None
    if request.HasField("keep_for"):
        keep_seconds = faults.seconds("keep_for", request.keep_for, may_be_zero=True)
        if keep_seconds > EVENT_KEPT_SECONDS:
            faults.add(
                "keep_for", f"must be at most {EVENT_KEPT_SECONDS:.0f}s, after which events are forgotten"
            )
    faults.done()
    return Event(event.event_id, event.name, event.correlation, event.payload, keep_seconds)


def _event(
    faults: Faults, event: saga_service_pb2.Event, payload_bytes_max: int, *, is_correlated: bool
) -> EventArrived:
    correlation = faults.line(
        "event.correlation", event.correlation, CORRELATION_CHARACTERS_MAX, is_required=is_correlated
    )
    return EventArrived(
        faults.line("event.event_id", event.event_id, EVENT_ID_CHARACTERS_MAX, is_required=True),
        faults.event_name("event.name", event.name),
        correlation,
        faults.payload("event.payload", event.payload, payload_bytes_max)
        if event.HasField("payload")
        else None,
    )


def event_list(request: saga_service_pb2.ListEventsRequest) -> tuple[EventFilter, int]:
    """The filter, and how many events to list."""
    faults = Faults()
    wanted = EventFilter(
        is_untaken=request.untaken,
        name=faults.line("name", request.name, NAME_CHARACTERS_MAX),
        correlation=faults.line("correlation", request.correlation, CORRELATION_CHARACTERS_MAX),
    )
    if request.correlation and not request.name:
        faults.add("correlation", "needs a name beside it")
    page_size = faults.page_size(request.page_size)
    faults.done()
    return wanted, page_size


def decide_approval(request: saga_service_pb2.DecideApprovalRequest) -> tuple[str, ApprovalDecided]:
    """The saga's id, and what who decides about which step."""
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    step = faults.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    decided_by = faults.line("decided_by", request.decided_by, PERSON_CHARACTERS_MAX, is_required=True)
    comment = faults.text("comment", request.comment)
    faults.done()
    return found, ApprovalDecided(step, request.approved, decided_by, comment)


def preview_compensation(request: saga_service_pb2.PreviewCompensationRequest) -> str:
    faults = Faults()
    found = faults.saga_id(request.saga_id)
    faults.done()
    return found


def _cause(faults: Faults, path: str, cause: saga_pb2.Cause, default_code: str) -> Cause:
    """What a participant says; long messages are cut, as those of its answers are."""
    code = cause.code or default_code
    if not _CAUSE_CODE.fullmatch(code):
        faults.add(f"{path}.code", f"must be like the name of a gRPC status: {_CAUSE_CODE.pattern}")
    return Cause(code, clip(cause.message))


def greeting(request: worker_service_pb2.WorkRequest, message_bytes_max: int) -> Greeting:
    """What a worker says of itself in its first message; `message_bytes_max` is what it receives where it does not say."""
    if not request.HasField("hello"):
        raise InvalidRequest.at("hello", "is required in the first message")
    faults = Faults()
    hello = request.hello
    if len(hello.methods) > METHODS_MAX:
        faults.add("hello.methods", f"has {len(hello.methods)} methods; {METHODS_MAX} is the limit")
    else:
        for index, method in enumerate(hello.methods):
            faults.line(f"hello.methods[{index}]", method, METHOD_CHARACTERS_MAX, is_required=True)
    faults.credits("hello.credits", hello.credits)
    if hello.message_bytes_max and hello.message_bytes_max < WORKER_MESSAGE_BYTES_MIN:
        faults.add(
            "hello.message_bytes_max",
            f"must be {WORKER_MESSAGE_BYTES_MIN} or more, or 0 for {message_bytes_max}",
        )
    welcomed = Greeting(
        participant=faults.line(
            "hello.participant", hello.participant, NAME_CHARACTERS_MAX, is_required=True
        ),
        methods=frozenset(hello.methods),
        credits=hello.credits,
        worker_id=faults.line("hello.worker_id", hello.worker_id, WORKER_ID_CHARACTERS_MAX, is_required=True),
        version=faults.line("hello.version", hello.version, NAME_CHARACTERS_MAX),
        message_bytes_max=hello.message_bytes_max or message_bytes_max,
    )
    faults.done()
    return welcomed


def work(raw: bytes, payload_bytes_max: int) -> tuple[worker_service_pb2.WorkRequest, list[Oversized]]:
    """What a worker says, but for the outcomes whose output is too large: no time is spent on those."""
    if len(raw) <= payload_bytes_max:
        return parsed(worker_service_pb2.WorkRequest, raw), []
    kept: list[bytes] = []
    oversized: list[Oversized] = []
    for number, begin, content, after in fields(raw):
        if number == _OUTCOMES:
            path, size = largest_payload(_TASK_OUTCOME, raw, content, after)
            if size > payload_bytes_max:
                task_id = number_of(raw, _TASK_ID, content, after)
                oversized.append(Oversized(task_id, too_large(size, payload_bytes_max, path)))
                continue
        kept.append(raw[begin:after])
    return parsed(worker_service_pb2.WorkRequest, b"".join(kept) if oversized else raw), oversized


def credits_of(request: worker_service_pb2.WorkRequest) -> int:
    """How many tasks a worker takes at once from now on."""
    faults = Faults()
    faults.credits("credits", request.credits, may_be_zero=True)
    faults.done()
    return request.credits


def declared_steps(request: worker_service_pb2.RegisterStepsRequest) -> tuple[str, Declared]:
    """The participant, and what it offers."""
    faults = Faults()
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


def declared_step_list(request: worker_service_pb2.ListDeclaredStepsRequest) -> tuple[str, int]:
    """The participant, and how many of its steps to list."""
    faults = Faults()
    participant = faults.line("participant", request.participant, NAME_CHARACTERS_MAX, is_required=True)
    page_size = faults.page_size(request.page_size, DECLARED_STEPS_MAX)
    faults.done()
    return participant, page_size


def saga_filter(request: saga_service_pb2.ListSagasRequest) -> tuple[SagaFilter, int]:
    """The filter, and how many sagas to list."""
    faults = Faults()
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
    faults = Faults()
    asked = (faults.line("name", name, NAME_CHARACTERS_MAX, is_required=True), faults.version(version))
    if is_version_required and not version:
        faults.add("version", "is required")
    faults.done()
    return asked


def definition_list(request: definition_service_pb2.ListDefinitionsRequest) -> tuple[str, int]:
    """The definition whose versions are asked for, empty for all definitions; and how many to list."""
    faults = Faults()
    asked = (faults.line("name", request.name, NAME_CHARACTERS_MAX), faults.page_size(request.page_size))
    faults.done()
    return asked


_Path = tuple[str | int, ...]


def _take_payloads(message: Message, path: _Path, faults: list[Fault]) -> Iterator[tuple[_Path, Any]]:
    """Takes the payloads out of a message, each with its path: in their canonical form whole numbers would be floats.

    Durations that are none, which have no such form, are taken out too, and told.
    """
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
        elif isinstance(value, duration_pb2.Duration):
            if problem := duration_problem(value):
                faults.append(Fault(path_of((*path, field.name)), problem))
                message.ClearField(field.name)
        else:
            yield from _take_payloads(value, (*path, field.name), faults)


def _canonical_form(message: Message, faults: list[Fault]) -> dict[str, Any]:
    """The message's JSON form, without the payloads in which there are faults. Raises InvalidDefinition when it has none."""
    bare = type(message)()
    bare.CopyFrom(message)
    payloads = list(_take_payloads(bare, (), faults))
    try:
        spec = json_form(bare)
    except (ValueError, json_format.Error):
        raise InvalidDefinition([*faults, Fault("", "has a value without a JSON form")]) from None
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
        raise InvalidRequest.at("definition", "is required, or text")
    faults: list[Fault] = []
    spec = _canonical_form(definition, faults)
    if faults:
        try:
            parse_definition(spec)
        except InvalidDefinition as error:
            faults.extend(error.faults)
        raise InvalidDefinition(faults)
    return spec
