"""Reads requests about definitions and checks them whole: InvalidRequest has every fault of a request."""

from __future__ import annotations

from typing import Any

from saga_coordinator.pb.saga.v1 import definition_pb2, definition_service_pb2
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.act import Declaration
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.wire.canonical_form import canonical_form
from saga_coordinator.wire.field_checks import FieldChecks


def which_definition(request: definition_service_pb2.GetDefinitionRequest) -> tuple[str, int]:
    """The definition's name, and the version; 0 if no version is named."""
    checks = FieldChecks()
    asked = (checks.name("name", request.name, is_required=True), checks.version(request.version))
    checks.done()
    return asked


def act_on_version(
    request: definition_service_pb2.DeprecateDefinitionRequest
    | definition_service_pb2.SetDefaultVersionRequest
    | definition_service_pb2.DeleteDefinitionRequest,
    *,
    is_version_required: bool,
) -> tuple[str, int, Declaration]:
    """The definition's name, the version or 0, and what the caller says of the act."""
    checks = FieldChecks()
    name, version = checks.name("name", request.name, is_required=True), checks.version(request.version)
    if is_version_required and not request.version:
        checks.add("version", "is required")
    declaration = checks.declaration(request)
    checks.done()
    return name, version, declaration


def definition_list(request: definition_service_pb2.ListDefinitionsRequest) -> tuple[str, int]:
    """The definition whose versions to list, or empty to list all definitions; and how many to list."""
    checks = FieldChecks()
    asked = (checks.name("name", request.name), checks.page_size(request.page_size))
    checks.done()
    return asked


def definition_spec(definition: definition_pb2.Definition) -> dict[str, Any]:
    """The canonical JSON form of a definition, with the contract's field names.

    Raises:
        InvalidDefinition: it has no such form. The error also has the faults that parsing finds.
    """
    faults: list[Fault] = []
    spec = canonical_form(definition, faults)
    if faults:
        try:
            parse_definition(spec)
        except InvalidDefinition as error:
            faults.extend(error.faults)
        raise InvalidDefinition(faults)
    return spec
