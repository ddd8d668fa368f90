"""Messages of one saga. The state of its steps is computed from its log, which is the truth (P7)."""

from __future__ import annotations

from saga_coordinator.engine.runs import Run
from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.answers import Accepted, NotApplied
from saga_coordinator.saga.machine.place import nodes
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import ENDS, SagaStatus
from saga_coordinator.store.sagas import SagaRecord
from saga_coordinator.views.room import RESPONSE_BYTES_MAX, fits, show
from saga_coordinator.wire.causes import cause_message
from saga_coordinator.wire.enumerations import (
    EFFECT_NUMBERS,
    REPORT_RESULT_NUMBERS,
    SAGA_STATUS_NUMBERS,
    STEP_STATUS_NUMBERS,
)
from saga_coordinator.wire.payload import fill
from saga_coordinator.wire.pieces import size_at_most
from saga_coordinator.wire.times import timestamp_of, timestamp_of_epoch

_CAUSE_CHARACTERS_MIN = 200


def saga_message(record: SagaRecord, into: saga_pb2.Saga | None = None) -> saga_pb2.Saga:
    """A saga without its steps, written `into` an empty message if that is given.

    A message that is written inside its answer need not be copied there, which takes long if the message is large.
    """
    message = saga_pb2.Saga() if into is None else into
    summary = saga_pb2.Saga(
        saga_id=record.saga_id,
        definition=record.definition,
        version=record.version,
        status=SAGA_STATUS_NUMBERS[record.status],
        start_key=record.start_key,
        labels=record.labels,
        failure=cause_message(record.failure) if record.failure else None,
        blocked_by=cause_message(record.blocked_by) if record.blocked_by else None,
        remaining_effects=record.remaining,
        started_at=timestamp_of(record.started_at),
        ended_at=timestamp_of(record.ended_at) if record.ended_at else None,
        deadline_at=timestamp_of(record.deadline_at) if record.deadline_at else None,
        sequence=record.sequence,
        owner=record.owner or "",
    )
    message.MergeFrom(summary)
    message.input_omitted = record.is_input_omitted
    if not record.is_input_omitted:
        fill(message.input, record.input)
    return message


def write_listed(record: SagaRecord, message: saga_pb2.Saga) -> None:
    """Writes a saga into an empty message as lists show it: without its input where that alone would fill an answer."""
    saga_message(record, message)
    if message.ByteSize() > RESPONSE_BYTES_MAX:
        message.ClearField("input")
        message.input_omitted = True


def started_message(saga_id: str, definition: str, version: int, start_key: str) -> saga_pb2.Saga:
    """A saga that has just been started, as far as that is known without asking the database again."""
    return saga_pb2.Saga(
        saga_id=saga_id,
        definition=definition,
        version=version,
        status=saga_pb2.SAGA_STATUS_RUNNING,
        start_key=start_key,
    )


def run_message(run: Run, driven_by: str, into: saga_pb2.Saga | None = None) -> saga_pb2.Saga | None:
    """A saga as it is in this coordinator's memory; None if its times are not known there.

    `driven_by` is the coordinator's identity: the saga's owner until it is let go. `into` as in `saga_message`.
    """
    state, started_at = run.state, run.origin.started_at
    ended_at = run.settled_at if state.status in ENDS else None
    if started_at is None or (state.status in ENDS and ended_at is None):
        return None
    message = saga_pb2.Saga() if into is None else into
    summary = saga_pb2.Saga(
        saga_id=run.saga_id,
        definition=state.definition,
        version=state.version,
        status=SAGA_STATUS_NUMBERS[state.status],
        start_key=run.origin.start_key,
        labels=state.labels,
        failure=cause_message(state.failure) if state.failure else None,
        blocked_by=cause_message(state.blocked_by) if state.blocked_by else None,
        remaining_effects=state.remaining,
        started_at=timestamp_of_epoch(started_at),
        ended_at=timestamp_of_epoch(ended_at) if ended_at is not None else None,
        deadline_at=timestamp_of_epoch(state.deadline_at) if state.deadline_at is not None else None,
        sequence=state.sequence,
        owner="" if run.is_dropped else driven_by,
    )
    message.MergeFrom(summary)
    fill(message.input, state.input)
    add_progress(message, run.definition, state)
    return message


def add_progress(
    message: saga_pb2.Saga, definition: Definition, state: SagaState, *, is_whole: bool = True
) -> None:
    """Adds what only the log tells: each instance of a step, in the definition's order, the output, and the parent.

    `is_whole` is false if the state was read without its payloads, because they are larger than an answer may be.
    """
    steps = [(node.key, state.step(node.key)) for node in nodes(definition, state)]
    has_output = state.status is SagaStatus.COMPLETED and definition.block.output is not None
    is_shown = (
        is_whole
        and fits(step.output for _, step in steps)
        and fits(step.wait.shown for _, step in steps if step.wait is not None)
    )
    for key, step in steps:
        _write_step(message.steps.add(), key, step, is_shown=is_shown)
    message.outputs_omitted = not is_shown
    if has_output and is_whole and fits([state.output]):
        show(message.output, state.output)
    elif has_output:
        message.outputs_omitted = True
    leave_payloads_out(message, RESPONSE_BYTES_MAX)
    if size_at_most(message) > RESPONSE_BYTES_MAX:
        _cut_steps(message)
    message.output_problem = state.output_problem or ""
    if (hold := state.hold) is not None:
        message.hold.act_id, message.hold.requested_by, message.hold.reason = (
            hold.act_id,
            hold.requested_by,
            hold.reason,
        )
    if state.parent is not None:
        message.parent_saga_id = state.parent.saga_id
        message.parent_step = state.parent.step


def leave_payloads_out(saga: saga_pb2.Saga, bytes_max: int) -> None:
    """Cuts a saga to so many bytes, and says what it leaves out: first the outputs, then the input."""
    if size_at_most(saga) > bytes_max:
        saga.outputs_omitted = True
        saga.ClearField("output")
        for step in saga.steps:
            step.ClearField("output")
            step.ClearField("shown")
    if size_at_most(saga) > bytes_max and saga.HasField("input"):
        saga.input_omitted = True
        saga.ClearField("input")


def _cut_steps(saga: saga_pb2.Saga) -> None:
    """Cuts the error messages of thousands of failed steps. If that is not enough, the last steps are left out."""
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


def _write_step(message: saga_pb2.StepState, name: str, state: StepState, *, is_shown: bool) -> None:
    message.name = name
    message.status = STEP_STATUS_NUMBERS[state.status]
    message.effect = EFFECT_NUMBERS[state.effect]
    message.attempt = state.attempt
    if state.cause is not None:
        message.cause.CopyFrom(cause_message(state.cause))
    if state.retry_at is not None:
        message.retry_at.CopyFrom(timestamp_of_epoch(state.retry_at))
    if state.is_output_known and is_shown:
        show(message.output, state.output)
    if state.pending_until is not None:
        message.waiting_until.CopyFrom(timestamp_of_epoch(state.pending_until))
    if state.deadline_at is not None:
        message.deadline_at.CopyFrom(timestamp_of_epoch(state.deadline_at))
    if state.wait is not None:
        message.awaited_event = state.wait.event or ""
        message.awaited_correlation = state.wait.correlation or ""
        if state.wait.shown is not None and is_shown:
            show(message.shown, state.wait.shown)


def report_result(answer: Accepted) -> saga_service_pb2.ReportResult.ValueType:
    """The result of a report; unspecified if the saga's owner runs a version that does not tell it."""
    if not isinstance(answer, NotApplied):
        return saga_service_pb2.REPORT_RESULT_APPLIED
    return REPORT_RESULT_NUMBERS[answer.why] if answer.why else saga_service_pb2.REPORT_RESULT_UNSPECIFIED
