"""Acts: as they were recorded, as they are possible now, and what they would do."""

from __future__ import annotations

from saga_coordinator.engine.reading import Plan
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from saga_coordinator.saga.machine.available import AvailableAct
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.stored_entry import place_of
from saga_coordinator.store.acts import ListedAct
from saga_coordinator.views.room import fits, show
from saga_coordinator.wire.enumerations import (
    ACT_RESULT_NUMBERS,
    ACT_SUBJECT_KIND_NUMBERS,
    ACT_VERB_NUMBERS,
    FINDING_NUMBERS,
    OPERATION_NUMBERS,
    SAGA_STATUS_NUMBERS,
)
from saga_coordinator.wire.times import timestamp_of


def act_message(listed: ListedAct) -> pb.Act:
    """What was asked, by whom, and what became of it."""
    record, act = listed.record, listed.record.act
    return pb.Act(
        act_id=act.act_id,
        verb=ACT_VERB_NUMBERS[act.verb],
        subject_kind=ACT_SUBJECT_KIND_NUMBERS[act.subject.kind],
        subject=act.subject.name,
        detail=act.subject.detail,
        principal=act.principal,
        declared_by=act.declared_by,
        reason=act.reason,
        result=ACT_RESULT_NUMBERS[record.result],
        why=record.why,
        state_before=record.before,
        state_after=record.after,
        recorded_at=timestamp_of(listed.recorded_at),
    )


def available_message(each: AvailableAct) -> pb.AvailableAct:
    """An act, and whether the saga's state allows it."""
    return pb.AvailableAct(
        verb=ACT_VERB_NUMBERS[each.verb],
        step=each.step,
        finding=FINDING_NUMBERS[each.finding] if each.finding else pb.FINDING_UNSPECIFIED,
        allowed=not each.refusal,
        refusal=each.refusal,
    )


def plan_message(plan: Plan, message: pb.ActPlan) -> None:
    """Writes a plan into an empty message. The inputs of calls are left out where an answer cannot hold them."""
    calls = [effect for effect in plan.decision.effects if isinstance(effect, Invoke)]
    is_shown = fits(call.input for call in calls)
    message.status_before = SAGA_STATUS_NUMBERS[plan.before]
    message.status_after = SAGA_STATUS_NUMBERS[plan.decision.state.status]
    message.inputs_omitted = not is_shown
    for kind, step, operation, attempt in map(place_of, plan.decision.entries):
        number = OPERATION_NUMBERS.get(operation or "", saga_pb2.OPERATION_KIND_UNSPECIFIED)
        message.entries.add(entry_type=kind, step=step or "", operation=number, attempt=attempt)
    for call in calls:
        planned = message.calls.add()
        planned.CopyFrom(
            saga_service_pb2.PlannedCall(
                step=call.step,
                participant=call.participant,
                method=call.method,
                idempotency_key=call.idempotency_key,
            )
        )
        if is_shown:
            show(planned.input, call.input)
