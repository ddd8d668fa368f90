"""`saga.v1.DefinitionService`."""

from __future__ import annotations

from collections.abc import Sequence

from saga_coordinator.api import requests
from saga_coordinator.api.convert import registered_message
from saga_coordinator.api.pages import RESPONSE_BYTES_MAX, page_token, position_of
from saga_coordinator.api.rpc import Context
from saga_coordinator.api.status import Resource
from saga_coordinator.participants.calls import Participants
from saga_coordinator.participants.live_check import live_faults
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.errors import Fault, InvalidDefinition
from saga_coordinator.saga.parsing import parse_definition
from saga_coordinator.store.definitions import Definitions

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DefinitionService"]


class DefinitionService:
    """One method per RPC; the contract says what each does."""

    def __init__(self, definitions: Definitions, participants: Participants) -> None:
        self._definitions = definitions
        self._participants = participants

    def resource(self, request: object) -> Resource | None:
        if isinstance(request, pb.GetDefinitionRequest):
            version = f"/versions/{request.version}" if request.version else ""
            return Resource("saga.v1.Definition", f"{request.name}{version}")
        return None

    async def RegisterDefinition(  # noqa: N802  # the RPC's name
        self, request: pb.RegisterDefinitionRequest, context: Context
    ) -> pb.RegisterDefinitionResponse:
        spec = requests.definition_spec(request, request.definition)
        registered, created = await self._definitions.register(spec)
        return pb.RegisterDefinitionResponse(registered=registered_message(registered), created=created)

    async def ValidateDefinition(  # noqa: N802
        self, request: pb.ValidateDefinitionRequest, context: Context
    ) -> pb.ValidateDefinitionResponse:
        response = pb.ValidateDefinitionResponse()
        try:
            spec = requests.definition_spec(request, request.definition)
            parse_definition(spec)
            faults: Sequence[Fault] = await live_faults(spec, self._participants) if request.live else ()
        except InvalidDefinition as error:
            faults = error.faults
        for fault in faults:
            response.faults.add(path=fault.path, description=fault.description)
        return response

    async def GetDefinition(  # noqa: N802
        self, request: pb.GetDefinitionRequest, context: Context
    ) -> pb.GetDefinitionResponse:
        name, version = requests.which_definition(request.name, request.version)
        return pb.GetDefinitionResponse(
            registered=registered_message(await self._definitions.get(name, version))
        )

    async def ListDefinitions(  # noqa: N802
        self, request: pb.ListDefinitionsRequest, context: Context
    ) -> pb.ListDefinitionsResponse:
        page_size = requests.page_size(request.page_size)
        after = position_of(request, request.page_token)
        found = await self._definitions.page(after or "", page_size + 1)
        response = pb.ListDefinitionsResponse()
        room = RESPONSE_BYTES_MAX
        for count, registered in enumerate(found):
            message = registered_message(registered)
            room -= message.ByteSize()
            if count == page_size or (room < 0 and count):
                response.next_page_token = page_token(request, found[count - 1].name)
                break
            response.definitions.append(message)
        return response
