"""`saga.v1.DefinitionService`."""

from __future__ import annotations

from saga_coordinator.api import definition_readers as readers
from saga_coordinator.api.caller import Caller
from saga_coordinator.api.definition_text import Given, field_of, given_by, located
from saga_coordinator.api.pages import ANY, NUMBER, fill_page, position_of
from saga_coordinator.api.to_the_end import to_the_end
from saga_coordinator.catalog.catalog import Catalog
from saga_coordinator.catalog.live_check import Findings
from saga_coordinator.control.definitions import DefinitionActs
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.saga.words.errors import InvalidDefinition, Resource
from saga_coordinator.store.lists import Lists
from saga_coordinator.store.pages import Page
from saga_coordinator.views.definition import registered_message

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["DefinitionService"]


class DefinitionService:
    """One method per RPC; the contract says what each does."""

    def __init__(self, catalog: Catalog, acts: DefinitionActs, lists: Lists) -> None:
        self._acts = acts
        self._turns = catalog.turns
        self._registration = catalog.registration
        self._versions = catalog.versions
        self._lists = lists

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
        self, request: pb.RegisterDefinitionRequest, caller: Caller
    ) -> pb.RegisterDefinitionResponse:
        given: Given | None = None
        try:
            given = await self._turns.in_thread(given_by, request)
            registered = await self._registration.register(caller.namespace, given.spec)
        except InvalidDefinition as error:
            faults = located(error.faults, given.document if given else None)
            raise InvalidDefinition(faults).inside(field_of(request)) from None
        response = pb.RegisterDefinitionResponse(created=registered.is_new)
        await self._show(registered.version, response.registered)
        for warning in located(registered.warnings, given.document):
            response.warnings.add(path=warning.path, description=warning.description, line=warning.line)
        return response

    async def _show(self, registered: RegisteredDefinition, into: pb.RegisteredDefinition) -> None:
        await self._turns.in_thread(registered_message, registered, into)

    async def ValidateDefinition(  # noqa: N802
        self, request: pb.ValidateDefinitionRequest, caller: Caller
    ) -> pb.ValidateDefinitionResponse:
        response = pb.ValidateDefinitionResponse()
        given: Given | None = None
        try:
            given = await self._turns.in_thread(given_by, request)
            found = await self._registration.validate(
                caller.namespace, given.spec, request.registered_along, live=request.live
            )
        except InvalidDefinition as error:
            found = Findings(faults=list(error.faults))
        document = given.document if given else None
        for fault in located(found.faults, document):
            response.faults.add(path=fault.path, description=fault.description, line=fault.line)
        for warning in located(found.warnings, document):
            response.warnings.add(path=warning.path, description=warning.description, line=warning.line)
        return response

    async def GetDefinition(  # noqa: N802
        self, request: pb.GetDefinitionRequest, caller: Caller
    ) -> pb.GetDefinitionResponse:
        name, version = readers.which_definition(request)
        response = pb.GetDefinitionResponse()
        await self._show(await self._versions.look_up(caller.namespace, name, version), response.registered)
        return response

    async def ListDefinitions(  # noqa: N802
        self, request: pb.ListDefinitionsRequest, caller: Caller
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
            return await self._lists.versions(caller.namespace, name, before, page_size, answer)
        return await self._lists.definitions(caller.namespace, after or "", page_size, answer)

    async def DeprecateDefinition(  # noqa: N802
        self, request: pb.DeprecateDefinitionRequest, caller: Caller
    ) -> pb.DeprecateDefinitionResponse:
        name, version, declaration = readers.act_on_version(request, is_version_required=True)
        deprecated = await to_the_end(
            self._acts.deprecate(caller, declaration, name, version, deprecated=request.deprecated)
        )
        response = pb.DeprecateDefinitionResponse()
        await self._show(deprecated, response.registered)
        return response

    async def SetDefaultVersion(  # noqa: N802
        self, request: pb.SetDefaultVersionRequest, caller: Caller
    ) -> pb.SetDefaultVersionResponse:
        name, version, declaration = readers.act_on_version(request, is_version_required=False)
        used = await to_the_end(self._acts.set_default(caller, declaration, name, version))
        response = pb.SetDefaultVersionResponse()
        await self._show(used, response.registered)
        return response

    async def DeleteDefinition(  # noqa: N802
        self, request: pb.DeleteDefinitionRequest, caller: Caller
    ) -> pb.DeleteDefinitionResponse:
        name, version, declaration = readers.act_on_version(request, is_version_required=True)
        await to_the_end(self._acts.delete(caller, declaration, name, version))
        return pb.DeleteDefinitionResponse()
