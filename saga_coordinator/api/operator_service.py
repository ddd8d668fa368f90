"""`saga.v1.OperatorService`."""

from __future__ import annotations

from saga_coordinator.api import operator_readers as readers
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.pages import ACT, act_at, fill_page, position_of, position_of_act
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.saga.words.errors import Resource
from saga_coordinator.store.acts import ListedAct
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.views.act import act_message

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["OperatorService"]


class OperatorService:
    """One method per RPC; the contract says what each does."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    def resource(self, request: object) -> Resource | None:
        return None

    async def ListActs(  # noqa: N802  # the RPC's name
        self, request: pb.ListActsRequest, caller: Caller
    ) -> pb.ListActsResponse:
        kind, subject, page_size = readers.act_list(request)
        position = position_of(request, request.page_token, ACT)
        before = None if position is None else act_at(position)

        def answer(page: Page[ListedAct]) -> pb.ListActsResponse:
            response = pb.ListActsResponse()
            response.next_page_token = fill_page(
                request, page, response.acts, act_message, lambda listed: position_of_act(listed.record)
            )
            return response

        return await self._lists.acts(caller.namespace, kind, subject, before, page_size, answer)
