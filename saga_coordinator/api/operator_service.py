"""`saga.v1.OperatorService`."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from saga_coordinator.api import operator_readers as readers
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.pages import ACT, act_at, fill_page, position_of, position_of_act
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.control.sagas import Demand, SagaActs
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.saga.words.errors import Resource
from saga_coordinator.store.acts import ListedAct
from saga_coordinator.store.counts import count_sagas
from saga_coordinator.store.failures import group_failures
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.store.sagas import SagaRows
from saga_coordinator.views.act import act_message, available_message, plan_message
from saga_coordinator.views.failures import FailureViews
from saga_coordinator.views.saga_views import SagaViews
from saga_coordinator.wire.conversion import convert_request

_Answer = TypeVar(
    "_Answer",
    pb.PauseSagaResponse,
    pb.ResumeSagaResponse,
    pb.RetrySagaResponse,
    pb.SkipStepResponse,
    pb.ResolveStepResponse,
    pb.AbandonSagaResponse,
)

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["OperatorService"]


class OperatorService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self,
        lists: Lists,
        acts: SagaActs,
        sagas: SagaRows,
        views: SagaViews,
        failures: FailureViews,
        *,
        payload_bytes_max: int,
    ) -> None:
        self._lists = lists
        self._acts = acts
        self._sagas = sagas
        self._views = views
        self._failures = failures
        self._payload_bytes_max = payload_bytes_max

    def resource(self, request: Message) -> Resource | None:
        saga_id = getattr(request, "saga_id", "")
        return Resource("saga.v1.Saga", saga_id) if saga_id else None

    async def ListActs(  # noqa: N802  # the RPC's name
        self, request: pb.ListActsRequest, caller: Caller
    ) -> pb.ListActsResponse:
        kind, subject, page_size = readers.act_list(request)
        position = position_of(request, request.page_token, ACT)
        before = None if position is None else act_at(position)

        def answer(page: Page[ListedAct]) -> pb.ListActsResponse:
            response = pb.ListActsResponse()
            response.next_page_token = fill_page(
                request,
                page,
                response.acts,
                lambda listed, into: into.CopyFrom(act_message(listed)),
                lambda listed: position_of_act(listed.record),
            )
            return response

        return await self._lists.acts(caller.namespace, kind, subject, before, page_size, answer)

    async def CountSagas(self, request: pb.CountSagasRequest, caller: Caller) -> pb.CountSagasResponse:  # noqa: N802
        count = await count_sagas(self._lists, caller.namespace, readers.count_sagas(request))
        return pb.CountSagasResponse(count=count.number, exact=count.is_exact)

    async def GroupFailures(  # noqa: N802
        self, request: pb.GroupFailuresRequest, caller: Caller
    ) -> pb.GroupFailuresResponse:
        wanted, within, limit = readers.group_failures(request)
        found = await group_failures(self._lists, caller.namespace, wanted, within, limit)
        return await self._failures.message(caller.namespace, found)

    async def ListAvailableActs(  # noqa: N802
        self, request: pb.ListAvailableActsRequest, caller: Caller
    ) -> pb.ListAvailableActsResponse:
        saga_id = readers.which_saga(request)
        await self._sagas.get(caller.namespace, saga_id)
        sequence, acts = await self._acts.available(saga_id)
        return pb.ListAvailableActsResponse(acts=map(available_message, acts), sequence=sequence)

    async def PauseSaga(self, request: pb.PauseSagaRequest, caller: Caller) -> pb.PauseSagaResponse:  # noqa: N802
        return await self._do(caller, readers.pause_saga(request), pb.PauseSagaResponse())

    async def ResumeSaga(self, request: pb.ResumeSagaRequest, caller: Caller) -> pb.ResumeSagaResponse:  # noqa: N802
        return await self._do(caller, readers.resume_saga(request), pb.ResumeSagaResponse())

    async def RetrySaga(self, request: pb.RetrySagaRequest, caller: Caller) -> pb.RetrySagaResponse:  # noqa: N802
        return await self._do(caller, readers.retry_saga(request), pb.RetrySagaResponse())

    async def SkipStep(self, request: pb.SkipStepRequest, caller: Caller) -> pb.SkipStepResponse:  # noqa: N802
        demand = await convert_request(
            request.ByteSize(), readers.skip_step, request, self._payload_bytes_max
        )
        return await self._do(caller, demand, pb.SkipStepResponse())

    async def ResolveStep(self, request: pb.ResolveStepRequest, caller: Caller) -> pb.ResolveStepResponse:  # noqa: N802
        demand = await convert_request(
            request.ByteSize(), readers.resolve_step, request, self._payload_bytes_max
        )
        return await self._do(caller, demand, pb.ResolveStepResponse())

    async def AbandonSaga(self, request: pb.AbandonSagaRequest, caller: Caller) -> pb.AbandonSagaResponse:  # noqa: N802
        return await self._do(caller, readers.abandon_saga(request), pb.AbandonSagaResponse())

    async def _do(self, caller: Caller, demand: Demand, response: _Answer) -> _Answer:
        """Does what is demanded and shows the saga as it was left, or only plans it."""
        record = await self._sagas.get(caller.namespace, demand.saga_id)
        if demand.is_dry_run:
            plan = await self._acts.plan(caller, demand)
            response.applied = bool(plan.decision.entries)
            plan_message(plan, response.plan)
        else:
            act, answered = await to_the_end(self._acts.do(caller, demand))
            response.applied, response.act_id = answered.is_applied, act.act_id
            record = await self._sagas.get(caller.namespace, demand.saga_id)
        await self._views.saga(record, into=response.saga)
        return response
