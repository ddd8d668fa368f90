"""`saga.v1.DefinitionService`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from saga_coordinator.api import requests
from saga_coordinator.api.convert import registered_message
from saga_coordinator.api.pages import RESPONSE_BYTES_MAX, page_token, position_of
from saga_coordinator.api.rpc import Context, unhindered
from saga_coordinator.api.status import Resource
from saga_coordinator.participants.calls import Participants
from saga_coordinator.participants.live_check import live_faults
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.errors import Fault, InvalidDefinition
from saga_coordinator.saga.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.parsing import parse_definition
from saga_coordinator.saga.participant_defaults import with_defaults
from saga_coordinator.store.definitions import Definitions

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DefinitionService"]


class DefinitionService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self, definitions: Definitions, participants: Participants, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._limits = limits
        self._definitions = definitions
        self._participants = participants

    def resource(self, request: object) -> Resource | None:
        if isinstance(
            request,
            pb.GetDefinitionRequest
            | pb.DeprecateDefinitionRequest
            | pb.SetDefaultVersionRequest
            | pb.DeleteDefinitionRequest,
        ):
            version = f"/versions/{request.version}" if request.version else ""
            return Resource("saga.v1.Definition", f"{request.name}{version}")
        return None

    async def RegisterDefinition(  # noqa: N802  # the RPC's name
        self, request: pb.RegisterDefinitionRequest, context: Context
    ) -> pb.RegisterDefinitionResponse:
        registered, created = await self._definitions.register(await self._whole(request))
        return pb.RegisterDefinitionResponse(registered=registered_message(registered), created=created)

    async def _whole(
        self, request: pb.RegisterDefinitionRequest | pb.ValidateDefinitionRequest
    ) -> dict[str, Any]:
        """The definition with what participants have declared, and what the directory has as their usual timeouts and retries."""
        given = await asyncio.to_thread(requests.definition_spec, request, request.definition)
        spec = await self._definitions.expanded(given)
        return with_defaults(spec, self._participants.defaults)

    async def ValidateDefinition(  # noqa: N802
        self, request: pb.ValidateDefinitionRequest, context: Context
    ) -> pb.ValidateDefinitionResponse:
        response = pb.ValidateDefinitionResponse()
        try:
            spec = await self._whole(request)
            await asyncio.to_thread(parse_definition, spec, self._limits)
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
            registered=registered_message(await self._definitions.look_up(name, version))
        )

    async def ListDefinitions(  # noqa: N802
        self, request: pb.ListDefinitionsRequest, context: Context
    ) -> pb.ListDefinitionsResponse:
        name, page_size = requests.definition_list(request)
        after = position_of(request, request.page_token)
        if name:
            before = int(after) if after else None
            found = await self._definitions.versions(name, before, page_size + 1)
        else:
            found = await self._definitions.page(after or "", page_size + 1)
        response = pb.ListDefinitionsResponse()
        room = RESPONSE_BYTES_MAX
        for count, registered in enumerate(found):
            message = registered_message(registered)
            room -= message.ByteSize()
            if count == page_size or (room < 0 and count):
                last = found[count - 1]
                response.next_page_token = page_token(request, str(last.version) if name else last.name)
                break
            response.definitions.append(message)
        return response

    async def DeprecateDefinition(  # noqa: N802
        self, request: pb.DeprecateDefinitionRequest, context: Context
    ) -> pb.DeprecateDefinitionResponse:
        name, version = requests.which_definition(request.name, request.version, is_version_required=True)
        deprecated = await self._definitions.deprecate(name, version, deprecated=request.deprecated)
        return pb.DeprecateDefinitionResponse(registered=registered_message(deprecated))

    async def SetDefaultVersion(  # noqa: N802
        self, request: pb.SetDefaultVersionRequest, context: Context
    ) -> pb.SetDefaultVersionResponse:
        name, version = requests.which_definition(request.name, request.version)
        used = await self._definitions.set_default(name, version)
        return pb.SetDefaultVersionResponse(registered=registered_message(used))

    async def DeleteDefinition(  # noqa: N802
        self, request: pb.DeleteDefinitionRequest, context: Context
    ) -> pb.DeleteDefinitionResponse:
        name, version = requests.which_definition(request.name, request.version, is_version_required=True)
        await unhindered(self._definitions.delete(name, version))
        return pb.DeleteDefinitionResponse()
