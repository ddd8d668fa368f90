"""Serves the other coordinators of the same database: hands their tasks to the workers that are connected here."""

from __future__ import annotations

from saga_coordinator.api.caller import Caller
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.pb.saga.internal.v1 import forward_service_pb2 as pb
from saga_coordinator.saga.words.errors import NotPossibleNow, Resource
from saga_coordinator.saga.words.outcome import Outcome, Succeeded
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.outcomes import write_outcome
from saga_coordinator.wire.times import seconds_of

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ForwardService"]


class ForwardService:
    """Hands tasks to the workers that are connected here."""

    def __init__(self, workers: Workers, coordinator_id: str) -> None:
        self._workers = workers
        self._coordinator_id = coordinator_id

    def resource(self, request: object) -> Resource | None:
        return None

    async def Forward(self, request: pb.ForwardRequest, caller: Caller) -> pb.ForwardResponse:  # noqa: N802  # the RPC's name
        if request.coordinator_id != self._coordinator_id:
            raise NotPossibleNow(
                Reason.OTHER_COORDINATOR,
                f"this is coordinator {self._coordinator_id}, not {request.coordinator_id}",
            )
        task = request.task
        timeout_seconds = seconds_of(task.timeout)
        outcome = await self._workers.invoke_here(request.participant, task, timeout_seconds)
        size = size_of(outcome.output) if isinstance(outcome, Succeeded) else 0
        return await convert(size, _response, outcome)


def _response(outcome: Outcome) -> pb.ForwardResponse:
    response = pb.ForwardResponse()
    write_outcome(response.outcome, outcome)
    return response
