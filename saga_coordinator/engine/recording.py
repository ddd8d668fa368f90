"""The records of people's acts on sagas: the act, the saga's answer, and its status before and after."""

from __future__ import annotations

from collections.abc import Sequence

from saga_coordinator.saga.machine.answers import Answer, NotApplied
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.inputs import Input
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import Act, ActRecord, ActResult
from saga_coordinator.saga.words.errors import Refusal


def act_records(
    inputs: Sequence[Input], decisions: Sequence[Decision], before: SagaStatus
) -> list[ActRecord]:
    """The records of the acts among the inputs that were decided; `before` is the saga's status before the first of them."""
    records: list[ActRecord] = []
    for given, decision in zip(inputs, decisions, strict=False):
        after = decision.state.status
        if (record := act_record(given, decision.answer, before, after)) is not None:
            records.append(record)
        before = after
    return records


def act_record(given: Input, answer: Answer, before: SagaStatus, after: SagaStatus) -> ActRecord | None:
    """The record of the act behind `given`; None if there is no act."""
    act: Act | None = getattr(given, "act", None)
    if act is None:
        return None
    result, why = ActResult.DONE, ""
    match answer:
        case Refusal():
            result, why = ActResult.REFUSED, answer.message
        case NotApplied():
            result = ActResult.NOTHING
        case _:  # it was applied
            pass
    return ActRecord(act, result, why, before.value, after.value)
