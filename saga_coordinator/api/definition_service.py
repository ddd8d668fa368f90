"""`saga.v1.DefinitionService`."""

from __future__ import annotations

from typing import Any

from saga_coordinator.api import readers
from saga_coordinator.api.convert import registered_message
from saga_coordinator.api.definition_text import Given, field_of, given_by, located
from saga_coordinator.api.pages import ANY, NUMBER, fill_page, position_of
from saga_coordinator.api.rpc import Context, unhindered
from saga_coordinator.catalog.live_check import Findings, check_live
from saga_coordinator.catalog.live_outline import outline_of
from saga_coordinator.participants.attempts import Attempts
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.definition.declared import used_steps
from saga_coordinator.saga.definition.named_in import participants_named
from saga_coordinator.saga.definition.parsing import check_size, parse_definition
from saga_coordinator.saga.definition.participant_defaults import with_defaults
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition, Resource
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.store.definitions import DefinitionRows, RegisteredDefinition
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DefinitionService"]


class DefinitionService:
    """One method per RPC; the contract says what each does."""

    def __init__(
        self,
        definitions: DefinitionRows,
        lists: Lists,
        participants: Attempts,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._definitions = definitions
        self._lists = lists
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
        given: Given | None = None
        try:
            given = await self._definitions.turns.in_thread(given_by, request)
            spec = await self._whole(given)
            warnings = await self._unknown_participants(spec)
            registered, created = await self._definitions.register(spec)
        except InvalidDefinition as error:
            faults = located(error.faults, given.document if given else None)
            raise InvalidDefinition(faults).inside(field_of(request)) from None
        response = pb.RegisterDefinitionResponse(registered=await self._message(registered), created=created)
        for warning in located(warnings, given.document):
            response.warnings.add(path=warning.path, description=warning.description, line=warning.line)
        return response

    async def _unknown_participants(self, spec: dict[str, Any]) -> list[Fault]:
        """Those that a start is refused for until the directory knows them."""

        def unknown() -> list[Fault]:
            known = self._participants.names
            named = [each for each in participants_named(spec) if each.participant not in known]
            told = {name: self._participants.not_known(name) for name in {each.participant for each in named}}
            return [Fault(each.path, told[each.participant]) for each in named]

        return await self._definitions.turns.in_thread(unknown)

    async def _message(self, registered: RegisteredDefinition) -> pb.RegisteredDefinition:
        return await self._definitions.turns.in_thread(registered_message, registered)

    async def _whole(self, given: Given) -> dict[str, Any]:
        """The definition with what participants have declared, and what the directory has as their usual timeouts and retries."""
        in_thread = self._definitions.turns.in_thread
        await in_thread(check_size, given.spec, self._limits)
        spec = await self._definitions.expanded(given.spec)
        return await in_thread(with_defaults, spec, self._participants.defaults)

    async def ValidateDefinition(  # noqa: N802
        self, request: pb.ValidateDefinitionRequest, context: Context
    ) -> pb.ValidateDefinitionResponse:
        response, found = pb.ValidateDefinitionResponse(), Findings()
        given: Given | None = None
        try:
            given = await self._definitions.turns.in_thread(given_by, request)
            spec = await self._whole(given)
            await self._definitions.turns.in_thread(parse_definition, spec, self._limits)
            if request.live:
                found = await self._live(spec)
            else:
                found = Findings(warnings=await self._unknown_participants(spec))
            await self._definitions.check_children(spec, request.registered_along)
        except InvalidDefinition as error:
            found.faults += error.faults
        document = given.document if given else None
        for fault in located(found.faults, document):
            response.faults.add(path=fault.path, description=fault.description, line=fault.line)
        for warning in located(found.warnings, document):
            response.warnings.add(path=warning.path, description=warning.description, line=warning.line)
        return response

    async def _live(self, spec: dict[str, Any]) -> Findings:
        outline = await self._definitions.turns.in_thread(outline_of, spec)
        declared = await self._definitions.declared.used_by(used_steps(spec))
        schemas = {
            step: declared[use]["output_schema"]
            for step, use in outline.declared.items()
            if "output_schema" in declared.get(use, {})
        }
        return await check_live(outline, self._participants, schemas, self._definitions.turns)

    async def GetDefinition(  # noqa: N802
        self, request: pb.GetDefinitionRequest, context: Context
    ) -> pb.GetDefinitionResponse:
        name, version = readers.which_definition(request.name, request.version)
        return pb.GetDefinitionResponse(
            registered=await self._message(await self._definitions.look_up(name, version))
        )

    async def ListDefinitions(  # noqa: N802
        self, request: pb.ListDefinitionsRequest, context: Context
    ) -> pb.ListDefinitionsResponse:
        name, page_size = readers.definition_list(request)
        after = position_of(request, request.page_token, NUMBER if name else ANY)

        def answer(page: Page[RegisteredDefinition]) -> pb.ListDefinitionsResponse:
            response = pb.ListDefinitionsResponse()
            response.next_page_token = fill_page(
                request,
                page,
                response.definitions,
                registered_message,
                lambda each: str(each.version) if name else each.name,
            )
            return response

        if name:
            before = int(after) if after else None
            return await self._lists.versions(name, before, page_size, answer)
        return await self._lists.definitions(after or "", page_size, answer)

    async def DeprecateDefinition(  # noqa: N802
        self, request: pb.DeprecateDefinitionRequest, context: Context
    ) -> pb.DeprecateDefinitionResponse:
        name, version = readers.which_definition(request.name, request.version, is_version_required=True)
        deprecated = await self._definitions.deprecate(name, version, deprecated=request.deprecated)
        return pb.DeprecateDefinitionResponse(registered=await self._message(deprecated))

    async def SetDefaultVersion(  # noqa: N802
        self, request: pb.SetDefaultVersionRequest, context: Context
    ) -> pb.SetDefaultVersionResponse:
        name, version = readers.which_definition(request.name, request.version)
        used = await self._definitions.set_default(name, version)
        return pb.SetDefaultVersionResponse(registered=await self._message(used))

    async def DeleteDefinition(  # noqa: N802
        self, request: pb.DeleteDefinitionRequest, context: Context
    ) -> pb.DeleteDefinitionResponse:
        name, version = readers.which_definition(request.name, request.version, is_version_required=True)
        await unhindered(self._definitions.delete(name, version))
        return pb.DeleteDefinitionResponse()
