"""Reads definitions from files for the commands, and words a coordinator's refusal of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from saga_coordinator.cli.options import Failure
from saga_coordinator.config import Document, FileFaulty, read_documents
from saga_coordinator.pb.saga.v1 import definition_pb2
from saga_coordinator.saga.definition.declared import used_steps
from saga_coordinator.saga.definition.named_in import children_named
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.wire.json_names import json_form

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Valid:
    """A definition that was read from a file, and has no faults that can be found without a coordinator."""

    document: Document
    message: definition_pb2.Definition


def read_definitions(files: Sequence[Path], *, may_use: bool = False) -> list[Valid]:
    """Reads every definition of every file. Raises Failure with all faults of all definitions.

    With `may_use`, definitions that use declared steps are left for a coordinator to check. Without it, they are faults.
    """
    valid: list[Valid] = []
    faults: list[str] = []
    for file in files:
        try:
            documents = read_documents(file)
        except FileFaulty as error:
            faults.append(str(error))
            continue
        for document in documents:
            try:
                if not (may_use and used_steps(document.content)):
                    parse_definition(document.content)
                message = json_format.ParseDict(document.content, definition_pb2.Definition())
            except InvalidDefinition as error:
                faults += [f"{document.locate(fault.path)}: {fault}" for fault in error.faults]
            except json_format.ParseError as error:
                faults.append(f"{document.source}: is not the JSON form of saga.v1.Definition: {error}")
            else:
                valid.append(Valid(document, message))
    if faults:
        raise Failure(*faults)
    return valid


def children_first(read: Sequence[Valid]) -> list[Valid]:
    """The definitions in their order, but each after the definitions that it runs as children. Rings of definitions keep their
    order.
    """
    ordered: dict[int, Valid] = {}
    begun: set[int] = set()

    def place(number: int) -> None:
        if number in begun:
            return
        begun.add(number)
        named = {child.definition for child in children_named(plain(read[number].message))}
        for other, valid in enumerate(read):
            if valid.message.name in named and valid.message.name != read[number].message.name:
                place(other)
        ordered[number] = read[number]

    for number in range(len(read)):
        place(number)
    return list(ordered.values())


def refusal(
    error: grpc.RpcError, address: str, document: Document | None = None, *, exit_code: int = 1
) -> Failure:
    """The lines that tell of a failed call, which was about the definition in `document` if that is given."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs do not know that it is a grpc.Call, too
    if error.code() is grpc.StatusCode.UNAVAILABLE and status is None:
        return Failure(
            f"no coordinator answers at {address} ({error.details()}); start one with `saga-coordinator serve`, or name another "
            "with --address",
            exit_code=exit_code,
        )
    bad = error_details_pb2.BadRequest()
    if status is not None and any(detail.Unpack(bad) for detail in status.details):
        return Failure(*(_violation(each, document) for each in bad.field_violations), exit_code=exit_code)
    what = f" {document.source}" if document else ""
    return Failure(f"{address} refused{what}: {error.code().name}: {error.details()}", exit_code=exit_code)


def _violation(violation: error_details_pb2.BadRequest.FieldViolation, document: Document | None) -> str:
    """The text of a fault. If it is a fault of the definition in the file, the text begins with the place in the file."""
    if document is None:
        return f"{violation.field}: {violation.description}"
    path = violation.field.removeprefix("definition").removeprefix(".")
    return f"{document.locate(path)}: {Fault(path, violation.description)}"


def plain(message: definition_pb2.Definition) -> dict[str, Any]:
    """The canonical JSON form, with the contract's field names and without `.0` behind whole numbers."""
    spec: dict[str, Any] = _whole(json_form(message))
    return spec


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
