"""Previews of what a compensation would do."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.saga.machine.preview import Preview
from saga_coordinator.views.room import fits, show
from saga_coordinator.wire.enumerations import SAGA_STATUS_NUMBERS


def preview_message(preview: Preview) -> saga_service_pb2.PreviewCompensationResponse:
    """The calls that a compensation would make. Their inputs are left out where an answer cannot hold them."""
    is_shown = fits(call.input for stage in preview.stages for call in stage)
    message = saga_service_pb2.PreviewCompensationResponse(
        remaining_effects=preview.remaining,
        refusal=preview.refusal or "",
        status=SAGA_STATUS_NUMBERS[preview.status],
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
                show(added.input, call.input)
    for each in preview.uncomputable:
        message.uncomputable.add(step=each.step, problem=each.problem)
    return message
