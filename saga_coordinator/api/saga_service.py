"""`saga.v1.SagaService`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Concatenate, ParamSpec, TypeVar

from google.protobuf.message import Message

from saga_coordinator.api import event_readers, report_readers, saga_readers
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.pages import EVENT, event_at, fill_page, position_of, position_of_event
from saga_coordinator.api.saga_answers import SagaAnswers
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.api.waits import Waits
from saga_coordinator.control.sagas import SagaActs
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.waiting import Settled
from saga_coordinator.pb.saga.v1 import saga_service_pb2 as pb
from saga_coordinator.saga.machine.answers import HeartbeatTaken
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.errors import Resource, Unavailable
from saga_coordinator.saga.words.identity import SAGA_ID
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.lists import Lists, PublishedEvent
from saga_coordinator.store.pages import Page
from saga_coordinator.store.sagas import SagaRecord, SagaRows
from saga_coordinator.views.event import write_published
from saga_coordinator.views.preview import preview_message
from saga_coordinator.views.saga import report_result, started_message, write_listed
from saga_coordinator.views.saga_views import SagaViews
from saga_coordinator.wire.conversion import convert, convert_request, size_of
from saga_coordinator.wire.times import duration_of, timestamp_of_epoch

_P = ParamSpec("_P")
_M = TypeVar("_M", bound=Message)
_T = TypeVar("_T")

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SagaService"]

WAIT_SECONDS_DEFAULT = 60.0
"""For callers without a deadline."""

WATCH_POLL_SECONDS = 0.5
"""How often a watched saga that another coordinator drives is looked at."""


class SagaService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self,
        coordinator: Coordinator,
        acts: SagaActs,
        views: SagaViews,
        sagas: SagaRows,
        lists: Lists,
        *,
        payload_bytes_max: int,
        forward_headers: frozenset[str] = frozenset(),
    ) -> None:
        self._coordinator = coordinator
        self._acts = acts
        self._sagas = sagas
        self._views = views
        self._answers = SagaAnswers(coordinator, views, sagas)
        self._lists = lists
        self._payload_bytes_max = payload_bytes_max
        self._forward_headers = forward_headers
        self._waits = Waits()

    def resource(self, request: Message) -> Resource | None:
        return _resource(request)

    def stop_waiting(self) -> None:
        """Tells waiting callers now how far their sagas have come, because they would hold the stop up."""
        self._waits.stop()

    async def StartSaga(self, request: pb.StartSagaRequest, caller: Caller) -> pb.StartSagaResponse:  # noqa: N802  # the RPC's name
        asked = await _checked(
            saga_readers.start_saga,
            request,
            self._payload_bytes_max,
            caller.metadata,
            self._forward_headers,
            caller.namespace,
        )
        saga_id, created = await self._coordinator.start_saga(asked)
        if request.wait:
            settled = await self._wait(saga_id, _patience_seconds(caller.seconds_left))
            if created and settled and settled.run:
                response = pb.StartSagaResponse(created=True)
                await self._answers.write(response.saga, caller.namespace, saga_id, settled.run)
                return response
        # Callers get what they need to go on. The whole saga would cost two reads, for which most callers have no use.
        elif created and (version := asked.version or self._coordinator.version_of(saga_id)):
            saga = started_message(saga_id, asked.definition, version, asked.start_key)
            return pb.StartSagaResponse(saga=saga, created=True)
        response = pb.StartSagaResponse(created=created)
        await self._answers.write(response.saga, caller.namespace, saga_id)
        return response

    async def GetSaga(self, request: pb.GetSagaRequest, caller: Caller) -> pb.GetSagaResponse:  # noqa: N802
        saga_id, start_key = saga_readers.which_saga(request)
        record = await (
            self._sagas.get(caller.namespace, saga_id)
            if saga_id
            else self._sagas.by_start_key(caller.namespace, start_key)
        )
        if request.include_log:
            return await self._views.saga_and_log(record, request.log_after_sequence)
        response = pb.GetSagaResponse()
        await self._views.saga(record, into=response.saga)
        return response

    async def ListSagas(self, request: pb.ListSagasRequest, caller: Caller) -> pb.ListSagasResponse:  # noqa: N802
        wanted, page_size = saga_readers.saga_filter(request)
        before = position_of(request, request.page_token, SAGA_ID)

        def answer(page: Page[SagaRecord]) -> pb.ListSagasResponse:
            response = pb.ListSagasResponse()
            response.next_page_token = fill_page(
                request, page, response.sagas, write_listed, lambda record: record.saga_id
            )
            return response

        return await self._lists.sagas(caller.namespace, wanted, before, page_size, answer)

    async def WaitSaga(self, request: pb.WaitSagaRequest, caller: Caller) -> pb.WaitSagaResponse:  # noqa: N802
        saga_id, seconds = saga_readers.wait_saga(request)
        patience = _patience_seconds(caller.seconds_left)
        record = await self._sagas.get(caller.namespace, saga_id)
        if record.status not in SETTLED:
            await self._wait(saga_id, patience if seconds is None else min(seconds, patience))
            record = await self._sagas.get(caller.namespace, saga_id)
        response = pb.WaitSagaResponse(settled=record.status in SETTLED)
        await self._views.saga(record, into=response.saga)
        return response

    async def WatchSaga(  # noqa: N802
        self, request: pb.WatchSagaRequest, caller: Caller
    ) -> AsyncIterator[pb.WatchSagaResponse]:
        saga_id, sequence = saga_readers.watch_saga(request)
        is_first = True
        while True:
            record = await self._sagas.get(caller.namespace, saga_id)
            while is_first or sequence < record.sequence:
                response = await self._views.news(record, sequence)
                if response.entries:
                    sequence = response.entries[-1].sequence
                yield response
                is_first = False
            if record.status in SETTLED:
                return
            await self._waits.until(self._coordinator.changed(saga_id, WATCH_POLL_SECONDS))
            if self._waits.is_stopping:
                raise Unavailable(
                    Reason.COORDINATOR_STOPPING,
                    "the coordinator is stopping; watch again, from the last sequence seen",
                )

    async def CancelSaga(self, request: pb.CancelSagaRequest, caller: Caller) -> pb.CancelSagaResponse:  # noqa: N802
        saga_id, asked = saga_readers.cancel_saga(request)
        answered = await to_the_end(self._acts.ask(caller, saga_id, asked))
        response = pb.CancelSagaResponse()
        await self._answers.write(response.saga, caller.namespace, saga_id, answered.run)
        return response

    async def ReportOutcome(  # noqa: N802
        self, request: pb.ReportOutcomeRequest, caller: Caller
    ) -> pb.ReportOutcomeResponse:
        saga_id, asked = await _checked(report_readers.report_outcome, request, self._payload_bytes_max)
        answered = await self._ask(saga_id, asked)
        response = pb.ReportOutcomeResponse(
            applied=answered.is_applied, result=report_result(answered.answer)
        )
        await self._answers.write(response.saga, caller.namespace, saga_id, answered.run)
        return response

    async def Heartbeat(self, request: pb.HeartbeatRequest, caller: Caller) -> pb.HeartbeatResponse:  # noqa: N802
        saga_id, asked = report_readers.heartbeat(request)
        answered = await self._ask(saga_id, asked)
        response = pb.HeartbeatResponse(awaited=answered.is_applied)
        if isinstance(answered.answer, HeartbeatTaken):
            response.timeout.CopyFrom(duration_of(answered.answer.timeout_seconds))
        return response

    async def SignalSaga(self, request: pb.SignalSagaRequest, caller: Caller) -> pb.SignalSagaResponse:  # noqa: N802
        saga_id, asked = await _checked(event_readers.signal_saga, request, self._payload_bytes_max)
        answered = await self._ask(saga_id, asked)
        return pb.SignalSagaResponse(applied=answered.is_applied)

    async def PublishEvent(  # noqa: N802
        self, request: pb.PublishEventRequest, caller: Caller
    ) -> pb.PublishEventResponse:
        event = await _checked(event_readers.publish_event, request, self._payload_bytes_max)
        published = await to_the_end(self._coordinator.publish(caller.namespace, event))
        response = pb.PublishEventResponse(sagas=published.sagas, duplicate=published.is_duplicate)
        response.remembered_until.CopyFrom(timestamp_of_epoch(published.remembered_until))
        if published.kept_until is not None:
            response.kept_until.CopyFrom(timestamp_of_epoch(published.kept_until))
        return response

    async def ListEvents(self, request: pb.ListEventsRequest, caller: Caller) -> pb.ListEventsResponse:  # noqa: N802
        wanted, page_size = event_readers.event_list(request)
        position = position_of(request, request.page_token, EVENT)

        def answer(page: Page[PublishedEvent]) -> pb.ListEventsResponse:
            response = pb.ListEventsResponse()
            response.next_page_token = fill_page(
                request,
                page,
                response.events,
                write_published,
                lambda each: position_of_event(each.published_at, each.event_id),
            )
            return response

        return await self._lists.events(
            caller.namespace, wanted, event_at(position) if position else None, page_size, answer
        )

    async def DecideApproval(  # noqa: N802
        self, request: pb.DecideApprovalRequest, caller: Caller
    ) -> pb.DecideApprovalResponse:
        saga_id, asked = saga_readers.decide_approval(request)
        answered = await to_the_end(self._acts.ask(caller, saga_id, asked))
        return pb.DecideApprovalResponse(applied=answered.is_applied)

    async def PreviewCompensation(  # noqa: N802
        self, request: pb.PreviewCompensationRequest, caller: Caller
    ) -> pb.PreviewCompensationResponse:
        saga_id = saga_readers.preview_compensation(request)
        preview = await self._coordinator.preview_compensation(saga_id)
        size = size_of([call.input for stage in preview.stages for call in stage])
        return await convert(size, preview_message, preview)

    async def _ask(self, saga_id: str, asked: Asked) -> Answered:
        """What the saga answers. It is seen through, also when the caller hangs up meanwhile."""
        return await to_the_end(self._coordinator.ask(saga_id, asked))

    async def _wait(self, saga_id: str, seconds: float) -> Settled | None:
        """Waits until the saga is settled, the time is over, or the server stops."""
        return await self._waits.until(self._coordinator.wait(saga_id, seconds))


def _resource(request: Message) -> Resource | None:
    """The definition of a start, or else the saga that the request names by its identity, a token or a start key."""
    if isinstance(request, pb.StartSagaRequest):
        return Resource("saga.v1.Definition", request.definition)
    given = {field.name: value for field, value in request.ListFields()}
    if named := report_readers.named_by(given.get("token", "")):
        return Resource("saga.v1.Saga", named.saga_id)
    if "saga_id" not in request.DESCRIPTOR.fields_by_name:
        return None
    return Resource("saga.v1.Saga", given.get("saga_id") or given.get("start_key", ""))


def _patience_seconds(until_deadline: float | None) -> float:
    """The seconds for which a caller may be kept waiting. A little time is left for the answer to be made and to travel."""
    if until_deadline is None:
        return WAIT_SECONDS_DEFAULT
    return max(0.0, until_deadline - min(0.5, max(0.05, until_deadline / 10)))


async def _checked(
    check: Callable[Concatenate[_M, _P], _T], request: _M, *args: _P.args, **more: _P.kwargs
) -> _T:
    """Reads what a request asks for. Raises InvalidRequest, and Overloaded if too many large requests wait."""
    return await convert_request(request.ByteSize(), check, request, *args, **more)
