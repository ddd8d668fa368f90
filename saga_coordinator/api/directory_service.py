"""`saga.v1.DirectoryService`."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

from saga_coordinator.api import directory_readers as readers
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.pages import fill_page, page_token, position_of
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.control.participants import ParticipantActs
from saga_coordinator.participants.live_directory import LiveDirectory
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as pb
from saga_coordinator.saga.words.errors import NotFound, Resource
from saga_coordinator.store.groups import GroupStanding
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.views.participant import ParticipantViews, group_message, setting_message
from saga_coordinator.views.room import RESPONSE_BYTES_MAX

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DirectoryService"]

STATUSES_AT_ONCE = 50
"""How many participants of a page are looked at before others get their turn: some milliseconds."""


class DirectoryService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self, directory: LiveDirectory, acts: ParticipantActs, views: ParticipantViews, lists: Lists
    ) -> None:
        self._directory = directory
        self._acts = acts
        self._views = views
        self._lists = lists

    def resource(self, request: object) -> Resource | None:
        match request:
            case pb.GetParticipantRequest() | pb.DeleteParticipantRequest():
                return Resource("saga.v1.Participant", request.name)
            case _:
                return None

    async def PutParticipant(  # noqa: N802  # the RPC's name
        self, request: pb.PutParticipantRequest, caller: Caller
    ) -> pb.PutParticipantResponse:
        name, spec, described, declaration = readers.put_participant(request)
        participant = await self._directory.reader.checked(name, spec, described)
        created = await to_the_end(self._acts.put(caller, declaration, participant, spec, described))
        return pb.PutParticipantResponse(created=created)

    async def GetParticipant(  # noqa: N802
        self, request: pb.GetParticipantRequest, caller: Caller
    ) -> pb.GetParticipantResponse:
        return pb.GetParticipantResponse(status=self._views.status(readers.which_participant(request)))

    async def ListParticipants(  # noqa: N802
        self, request: pb.ListParticipantsRequest, caller: Caller
    ) -> pb.ListParticipantsResponse:
        page_size = readers.page_size(request)
        after = position_of(request, request.page_token) or ""
        all_names = self._directory.names
        first = bisect_right(all_names, after)
        names = all_names[first : first + page_size]
        response = pb.ListParticipantsResponse()
        room, listed, has_more = RESPONSE_BYTES_MAX, after, first + page_size < len(all_names)
        for count, name in enumerate(names):
            if count and not count % STATUSES_AT_ONCE:
                await asyncio.sleep(0)
            if (status := self._status_if_known(name)) is None:
                continue
            room -= status.ByteSize()
            if room < 0 and response.statuses:
                has_more = True
                break
            response.statuses.append(status)
            listed = name
        if has_more and listed:
            response.next_page_token = page_token(request, listed)
        return response

    def _status_if_known(self, name: str) -> pb.ParticipantStatus | None:
        try:
            return self._views.status(name)
        except NotFound:  # deleted while the page was made
            return None

    async def DeleteParticipant(  # noqa: N802
        self, request: pb.DeleteParticipantRequest, caller: Caller
    ) -> pb.DeleteParticipantResponse:
        name, declaration = readers.delete_participant(request)
        await to_the_end(self._acts.delete(caller, declaration, name))
        return pb.DeleteParticipantResponse()

    async def SetBreaker(  # noqa: N802
        self, request: pb.SetBreakerRequest, caller: Caller
    ) -> pb.SetBreakerResponse:
        name, control, declaration = readers.set_breaker(request)
        setting = await to_the_end(self._acts.set_breaker(caller, declaration, name, control))
        return pb.SetBreakerResponse(setting=setting_message(setting))

    async def ListGroups(  # noqa: N802
        self, request: pb.ListGroupsRequest, caller: Caller
    ) -> pb.ListGroupsResponse:
        page_size = readers.page_size(request)
        after = position_of(request, request.page_token) or ""

        def answer(page: Page[GroupStanding]) -> pb.ListGroupsResponse:
            response = pb.ListGroupsResponse()
            response.next_page_token = fill_page(
                request,
                page,
                response.groups,
                lambda group, into: into.CopyFrom(group_message(group)),
                lambda group: group.name,
            )
            return response

        return await self._lists.groups(after, page_size, answer)
