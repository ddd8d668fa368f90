"""`saga-coordinator definition apply|validate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from saga_coordinator.cli.options import Failure, address_flag
from saga_coordinator.config import Document, FileFaulty, read_documents
from saga_coordinator.pb.saga.v1 import definition_pb2, definition_service_pb2
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.saga.errors import InvalidDefinition
from saga_coordinator.saga.parsing import parse_definition

TIMEOUT_SECONDS = 10.0
LIVE_TIMEOUT_SECONDS = 30.0
"""Participants may take their time to answer."""

_files = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))


@click.group()
def definition() -> None:
    """Check definitions, and register them.

    A FILE is YAML, of one or several documents, or JSON (.json); `-` is standard input.
    """


@definition.command(short_help="Check the definitions in FILES.")
@_files
@click.option(
    "--live",
    is_flag=True,
    help="Have a coordinator ask its participants, too: is each one there, and do its gRPC methods take what they are given?",
)
@address_flag
def validate(files: tuple[Path, ...], live: bool, address: str) -> None:
    """Check the definitions in FILES; exit with 1 when any has a fault. No coordinator is needed unless --live."""
    read = _read(files)
    if live:
        _check_live(read, address)
    for valid in read:
        click.echo(f"{valid.document.source}: {valid.message.name} is valid")


def _check_live(read: Sequence[_Valid], address: str) -> None:
    """Raises Failure with all faults of all definitions."""
    faults: list[str] = []
    with grpc.insecure_channel(address) as channel:
        stub = DefinitionServiceStub(channel)
        for valid in read:
            request = definition_service_pb2.ValidateDefinitionRequest(definition=valid.message, live=True)
            try:
                response = stub.ValidateDefinition(request, timeout=LIVE_TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                raise _failure(error, address, valid.document) from None
            faults += [
                f"{valid.document.locate(fault.path)}: {fault.path}: {fault.description}"
                for fault in response.faults
            ]
    if faults:
        raise Failure(*faults)


@definition.command(short_help="Register the definitions in FILES, if all are valid.")
@_files
@address_flag
def apply(files: tuple[Path, ...], address: str) -> None:
    """Register the definitions in FILES, once all of them are known to be valid.

    A definition whose content has not changed keeps its version; a changed one gets the next.
    """
    read = _read(files)
    with grpc.insecure_channel(address) as channel:
        stub = DefinitionServiceStub(channel)
        for valid in read:
            request = definition_service_pb2.RegisterDefinitionRequest(definition=valid.message)
            try:
                response = stub.RegisterDefinition(request, timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                raise _failure(error, address, valid.document) from None
            outcome = "created" if response.created else "unchanged"
            click.echo(f"{valid.message.name} version {response.registered.version} ({outcome})")


@dataclass(frozen=True, slots=True)
class _Valid:
    document: Document
    message: definition_pb2.Definition


def _read(files: Sequence[Path]) -> list[_Valid]:
    """Every definition of every file. Raises Failure with all faults of all of them."""
    valid: list[_Valid] = []
    faults: list[str] = []
    for file in files:
        try:
            documents = read_documents(file)
        except FileFaulty as error:
            faults.append(str(error))
            continue
        for document in documents:
            try:
                parse_definition(document.content)
                message = json_format.ParseDict(document.content, definition_pb2.Definition())
            except InvalidDefinition as error:
                faults += [f"{document.locate(fault.path)}: {fault}" for fault in error.faults]
            except json_format.ParseError as error:
                faults.append(f"{document.source}: is not the JSON form of saga.v1.Definition: {error}")
            else:
                valid.append(_Valid(document, message))
    if faults:
        raise Failure(*faults)
    return valid


def _failure(error: grpc.RpcError, address: str, document: Document) -> Failure:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the stubs do not know that it is a grpc.Call, too
    if error.code() is grpc.StatusCode.UNAVAILABLE and status is None:
        return Failure(
            f"no coordinator answers at {address} ({error.details()}); start one with `saga-coordinator serve`, or name another "
            "with --address"
        )
    bad = error_details_pb2.BadRequest()
    if status is not None and any(detail.Unpack(bad) for detail in status.details):
        return Failure(
            *(
                f"{document.locate(violation.field)}: {violation.field}: {violation.description}"
                for violation in bad.field_violations
            )
        )
    return Failure(f"{address} refused {document.source}: {error.code().name}: {error.details()}")
