"""Definitions as callers give them: as a message, or as text that is read as the commands read files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import descriptor_pool, json_format

from saga_coordinator.api.definition_readers import definition_spec
from saga_coordinator.config import Document, FileFaulty, read_text
from saga_coordinator.participants.calls.fit import CONVERSION_ERRORS, misfits_of
from saga_coordinator.pb.saga.v1 import definition_pb2
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.saga.definition.declared import used_steps
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition, InvalidRequest

_SOURCE = "text"
_PLACE = re.compile(rf"{_SOURCE}(?::(?P<line>\d+))?: ")


@dataclass(frozen=True, slots=True)
class Given:
    """A definition in its canonical JSON form; `document` is the text that it was read from, if any."""

    spec: dict[str, Any]
    document: Document | None = None


def given_by(request: pb.RegisterDefinitionRequest | pb.ValidateDefinitionRequest) -> Given:
    """The definition that `request` gives.

    Raises:
        InvalidDefinition: with every fault, and its line in the text.
        InvalidRequest: it gives neither or both.
    """
    if not request.text:
        if not request.HasField("definition"):
            raise InvalidRequest.at("definition", "is required, or text")
        return Given(definition_spec(request.definition))
    if request.HasField("definition"):
        raise InvalidRequest.at("text", "cannot be given together with definition")
    try:
        document = read_text(request.text, _SOURCE)
    except FileFaulty as error:
        raise InvalidDefinition([_fault_of(str(error))]) from None
    try:
        return Given(_spec_of(document.content), document)
    except InvalidDefinition as error:
        raise InvalidDefinition(located(error.faults, document)) from None


def located(faults: Iterable[Fault], document: Document | None) -> list[Fault]:
    """The same faults with their lines in the document."""
    if document is None:
        return list(faults)
    return [
        fault if fault.line else replace(fault, line=document.line_of(fault.path) or 0) for fault in faults
    ]


def field_of(request: pb.RegisterDefinitionRequest) -> str:
    """The name of the field that has the definition."""
    return "text" if request.text else "definition"


def _spec_of(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not used_steps(content):
        parse_definition(content)
    definition = definition_pb2.Definition()
    try:
        json_format.ParseDict(content, definition)
    except CONVERSION_ERRORS:
        descriptor: Any = (
            definition_pb2.Definition.DESCRIPTOR
        )  # the stubs tell two classes apart that are one
        found = misfits_of(content, descriptor, descriptor_pool.Default())
        raise InvalidDefinition(found or [Fault("", "is not the JSON form of saga.v1.Definition")]) from None
    return definition_spec(definition)


def _fault_of(message: str) -> Fault:
    found = _PLACE.match(message)
    if found is None:
        return Fault("", message)
    return Fault("", message[found.end() :], int(found["line"] or 0))
