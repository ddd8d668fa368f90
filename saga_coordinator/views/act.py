"""Acts, as they were recorded."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.store.acts import ListedAct
from saga_coordinator.wire.enumerations import ACT_RESULT_NUMBERS, ACT_SUBJECT_KIND_NUMBERS, ACT_VERB_NUMBERS
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
