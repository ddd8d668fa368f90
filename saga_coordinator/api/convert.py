"""Records to messages. What a saga's steps have come to is computed from its log, which is the truth (P7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from saga_coordinator.api.pages import RESPONSE_BYTES_MAX
from saga_coordinator.engine.advance import Run
from saga_coordinator.pb.saga.v1 import definition_pb2, definition_service_pb2, saga_pb2, saga_service_pb2
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.machine.answers import Accepted, NotApplied, WhyNot
from saga_coordinator.saga.machine.entries import decode
from saga_coordinator.saga.machine.place import nodes
from saga_coordinator.saga.machine.preview import Preview
from saga_coordinator.saga.machine.state import EffectKnown, SagaState, StepState, fold
from saga_coordinator.saga.machine.transitions import ENDS, SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.saga.words.size import Measure, TooLarge
from saga_coordinator.store.lists import PublishedEvent
from saga_coordinator.store.sagas import PAYLOADS, LogEntry, SagaRecord
from saga_coordinator.wire.payload import NESTING_MAX, PayloadError, fill, to_value

SAGA_STATUSES: Mapping[int, SagaStatus] = {
    saga_pb2.SagaStatus.Value(f"SAGA_STATUS_{status}"): status for status in SagaStatus
}
OPERATION_KINDS: Mapping[int, OperationKind] = {
    saga_pb2.OPERATION_KIND_ACTION: OperationKind.ACTION,
    saga_pb2.OPERATION_KIND_COMPENSATION: OperationKind.COMPENSATION,
}
_SAGA_STATUSES = {status: saga_pb2.SagaStatus.ValueType(number) for number, status in SAGA_STATUSES.items()}
_STEP_STATUSES = {status: saga_pb2.StepStatus.Value(f"STEP_STATUS_{status}") for status in StepStatus}
_EFFECTS = {effect: saga_pb2.Effect.Value(f"EFFECT_{effect.name}") for effect in EffectKnown}
_OPERATIONS = {
    str(kind): saga_pb2.OperationKind.ValueType(number) for number, kind in OPERATION_KINDS.items()
}

_RESULTS = {reason: saga_service_pb2.ReportResult.Value(f"REPORT_RESULT_{reason}") for reason in WhyNot}

_CAUSE_CHARACTERS_MIN = 200

_BODY_NESTING_MAX = NESTING_MAX + 1
"""A body holds payloads, each as deeply nested as a payload may be."""


def saga_message(record: SagaRecord) -> saga_pb2.Saga:
    """A saga without its steps."""
    message = saga_pb2.Saga(
        saga_id=record.saga_id,
        definition=record.definition,
        version=record.version,
        status=_SAGA_STATUSES[record.status],
        start_key=record.start_key,
        labels=record.labels,
        failure=cause_message(record.failure) if record.failure else None,
        remaining_effects=record.remaining,
        started_at=instant(record.started_at),
        ended_at=instant(record.ended_at) if record.ended_at else None,
        deadline_at=instant(record.deadline_at) if record.deadline_at else None,
        sequence=record.sequence,
        owner=record.owner or "",
    )
    message.input_omitted = record.is_input_omitted
    if not record.is_input_omitted:
        fill(message.input, record.input)
    return message


def listed_message(record: SagaRecord) -> saga_pb2.Saga:
    """A saga as lists show it: without its input where that would be an answer of its own."""
    message = saga_message(record)
    if message.ByteSize() > RESPONSE_BYTES_MAX:
        message.ClearField("input")
        message.input_omitted = True
    return message


def started_message(saga_id: str, definition: str, version: int, start_key: str) -> saga_pb2.Saga:
    """A saga that has just been started, as far as that is known without asking the database again."""
    return saga_pb2.Saga(
        saga_id=saga_id,
        definition=definition,
        version=version,
        status=saga_pb2.SAGA_STATUS_RUNNING,
        start_key=start_key,
    )


def settled_message(run: Run, start_key: str) -> saga_pb2.Saga | None:
    """A saga that this coordinator drove from its start to where nothing moves; None where its times are not known here."""
    if run.started_at is None or run.settled_at is None:
        return None
    state = run.state
    message = saga_pb2.Saga(
        saga_id=run.saga_id,
        definition=state.definition,
        version=state.version,
        status=_SAGA_STATUSES[state.status],
        start_key=start_key,
        labels=state.labels,
        failure=cause_message(state.failure) if state.failure else None,
        remaining_effects=state.remaining,
        started_at=instant_of_epoch(run.started_at),
        ended_at=instant_of_epoch(run.settled_at) if state.status in ENDS else None,
        deadline_at=instant_of_epoch(state.deadline_at) if state.deadline_at is not None else None,
        sequence=state.sequence,
    )
    fill(message.input, state.input)
    add_progress(message, run.definition, state)
    return message


def add_progress(
    message: saga_pb2.Saga, definition: Definition, state: SagaState, *, is_whole: bool = True
) -> None:
    """What only the log tells: each instance of a step, in the definition's order, the output, and whose child it is.

    `is_whole` is false where the state was read without its payloads, since those are more than an answer may be.
    """
    steps = [(node.key, state.step(node.key)) for node in nodes(definition, state)]
    has_output = state.status is SagaStatus.COMPLETED and definition.block.output is not None
    is_shown = (
        is_whole
        and _fits(step.output for _, step in steps)
        and _fits(step.wait.shown for _, step in steps if step.wait is not None)
    )
    message.steps.extend(_step_message(key, step, is_shown=is_shown) for key, step in steps)
    message.outputs_omitted = not is_shown
    if has_output and is_whole and _fits([state.output]):
        _show(message.output, state.output)
    elif has_output:
        message.outputs_omitted = True
    leave_payloads_out(message, RESPONSE_BYTES_MAX)
    if message.ByteSize() > RESPONSE_BYTES_MAX:
        _cut_steps(message)
    message.output_problem = state.output_problem or ""
    if state.parent is not None:
        message.parent_saga_id = state.parent.saga_id
        message.parent_step = state.parent.step


def _fits(payloads: Iterable[Any]) -> bool:
    """Whether they may be in one answer, before the time is spent to write them into it."""
    measure = Measure(RESPONSE_BYTES_MAX, RESPONSE_BYTES_MAX)
    room = RESPONSE_BYTES_MAX
    try:
        for payload in payloads:
            room -= measure.check(payload)
            if room < 0:
                return False
    except TooLarge:
        return False
    return True


def leave_payloads_out(saga: saga_pb2.Saga, bytes_max: int) -> None:
    """Leaves out of a saga what an answer of so many bytes has no room for, and says so: what came of it, then its input."""
    if saga.ByteSize() > bytes_max:
        saga.outputs_omitted = True
        saga.ClearField("output")
        for step in saga.steps:
            step.ClearField("output")
            step.ClearField("shown")
    if saga.ByteSize() > bytes_max and saga.HasField("input"):
        saga.input_omitted = True
        saga.ClearField("input")


def _cut_steps(saga: saga_pb2.Saga) -> None:
    """Of thousands of steps that failed: first what was said about each, then the last ones."""
    for step in saga.steps:
        if len(step.cause.message) > _CAUSE_CHARACTERS_MIN:
            step.cause.message = step.cause.message[:_CAUSE_CHARACTERS_MIN] + "[cut]"
    room = RESPONSE_BYTES_MAX - (saga.ByteSize() - sum(step.ByteSize() + 4 for step in saga.steps))
    for count, step in enumerate(saga.steps):
        room -= step.ByteSize() + 4
        if room < 0:
            saga.steps_omitted = len(saga.steps) - count
            del saga.steps[count:]
            return


def folded(saga_id: str, log: Iterable[LogEntry]) -> SagaState:
    """The state that the entries lead to."""
    return fold(saga_id, (decode(logged.entry) for logged in log))


def _step_message(name: str, state: StepState, *, is_shown: bool) -> saga_pb2.StepState:
    message = saga_pb2.StepState(
        name=name,
        status=_STEP_STATUSES[state.status],
        effect=_EFFECTS[state.effect],
        attempt=state.attempt,
        cause=cause_message(state.cause) if state.cause else None,
        retry_at=instant_of_epoch(state.retry_at) if state.retry_at is not None else None,
    )
    if state.is_output_known and is_shown:
        _show(message.output, state.output)
    if state.pending_until is not None:
        message.waiting_until.CopyFrom(instant_of_epoch(state.pending_until))
    if state.deadline_at is not None:
        message.deadline_at.CopyFrom(instant_of_epoch(state.deadline_at))
    if state.wait is not None:
        message.awaited_event = state.wait.event or ""
        message.awaited_correlation = state.wait.correlation or ""
        if state.wait.shown is not None and is_shown:
            _show(message.shown, state.wait.shown)
    return message


def _show(value: struct_pb2.Value, payload: Any) -> None:
    """Writes what a definition has computed, which may be more deeply nested than anything that comes in from outside."""
    try:
        fill(value, payload)
    except PayloadError as error:
        value.string_value = f"[not shown: {error}]"


def entry_message(logged: LogEntry) -> saga_pb2.Entry:
    entry = logged.entry
    return saga_pb2.Entry(
        sequence=logged.sequence,
        entry_type=entry.type,
        step=entry.step or "",
        operation=_OPERATIONS.get(entry.operation or "", saga_pb2.OPERATION_KIND_UNSPECIFIED),
        attempt=entry.attempt,
        body=to_value(entry.body, depth_max=_BODY_NESTING_MAX).struct_value,
        recorded_at=instant(logged.recorded_at),
        recorded_by=logged.recorded_by,
        payload_omitted=logged.is_payload_omitted,
    )


def without_payload(entry: saga_pb2.Entry) -> saga_pb2.Entry:
    """The entry without what callers, participants and definitions said, which alone is more than an answer may be."""
    for name in PAYLOADS:
        if name in entry.body.fields:
            del entry.body.fields[name]
    entry.payload_omitted = True
    return entry


def cause_message(cause: Cause) -> saga_pb2.Cause:
    return saga_pb2.Cause(
        code=cause.code, message=cause.message, step=cause.step, requested_by=cause.requested_by
    )


def registered_message(registered: RegisteredDefinition) -> definition_service_pb2.RegisteredDefinition:
    return definition_service_pb2.RegisteredDefinition(
        definition=json_format.ParseDict(registered.spec, definition_pb2.Definition()),
        version=registered.version,
        digest=registered.digest,
        registered_at=instant(registered.registered_at),
        deprecated=registered.deprecated,
        is_default=registered.is_default,
    )


def preview_message(preview: Preview) -> saga_service_pb2.PreviewCompensationResponse:
    """The inputs of the calls are left out where they are more than an answer may be."""
    is_shown = _fits(call.input for stage in preview.stages for call in stage)
    message = saga_service_pb2.PreviewCompensationResponse(
        remaining_effects=preview.remaining,
        refusal=preview.refusal or "",
        status=_SAGA_STATUSES[preview.status],
        in_flight=preview.in_flight,
        inputs_omitted=not is_shown,
    )
    for stage in preview.stages:
        planned = message.stages.add()
        for call in stage:
            added = planned.calls.add(
                step=call.step,
                participant=call.participant,
                method=call.method,
                idempotency_key=call.idempotency_key,
            )
            if is_shown:
                _show(added.input, call.input)
    for each in preview.uncomputable:
        message.uncomputable.add(step=each.step, problem=each.problem)
    return message


def report_result(answer: Accepted) -> saga_service_pb2.ReportResult.ValueType:
    """What a report came to; unspecified where the saga's owner is of a version that does not say."""
    if not isinstance(answer, NotApplied):
        return saga_service_pb2.REPORT_RESULT_APPLIED
    return _RESULTS[answer.why] if answer.why else saga_service_pb2.REPORT_RESULT_UNSPECIFIED


def published_message(event: PublishedEvent) -> saga_service_pb2.PublishedEvent:
    """What was published, and what became of it."""
    message = saga_service_pb2.PublishedEvent(
        event=saga_service_pb2.Event(event_id=event.event_id, name=event.name, correlation=event.correlation),
        published_at=instant(event.published_at),
        taken_by=event.taken_by or "",
        payload_omitted=event.is_payload_omitted,
    )
    if event.payload is not None:
        message.event.payload.CopyFrom(to_value(event.payload))
    if event.kept_until is not None:
        message.kept_until.CopyFrom(instant(event.kept_until))
    if event.taken_at is not None:
        message.taken_at.CopyFrom(instant(event.taken_at))
    return message


def instant(at: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(at)
    return message


def instant_of_epoch(seconds: float) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromMicroseconds(round(seconds * 1e6))
    return message
