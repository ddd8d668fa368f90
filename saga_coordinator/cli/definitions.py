"""`saga-coordinator definition`: `apply` and `validate` here, the others in `versions` and `exploring`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import grpc

from saga_coordinator.cli import exploring, versions
from saga_coordinator.cli.definition_files import (
    TIMEOUT_SECONDS,
    Valid,
    children_first,
    read_definitions,
    refusal,
)
from saga_coordinator.cli.options import Failure, address_flag
from saga_coordinator.pb.saga.v1 import definition_service_pb2
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub

LIVE_TIMEOUT_SECONDS = 30.0
"""The seconds to wait for the coordinator, which asks participants. They may take their time to answer."""

_files = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))


@click.group()
def definition() -> None:
    """Check definitions, register them, and manage their versions.

    A FILE is YAML, of one or several documents, or JSON (.json); `-` is standard input.
    """


@definition.command(short_help="Check the definitions in FILES.")
@_files
@click.option(
    "--live",
    is_flag=True,
    help="Let a coordinator ask its participants, too: is each there, do its methods take what they are given, and do "
    "they return what "
    "is read?",
)
@address_flag
def validate(files: tuple[Path, ...], live: bool, address: str) -> None:
    """Check the definitions in FILES; exit with 1 when any has a fault. No coordinator is needed unless --live.

    Whether definitions that they run as children exist, only a coordinator knows.
    """
    read = read_definitions(files, may_use=live)
    if live:
        with grpc.insecure_channel(address) as channel:
            _check(read, DefinitionServiceStub(channel), address, live=True)
    for valid in read:
        click.echo(f"{valid.document.source}: {valid.message.name} is valid")


def _check(read: Sequence[Valid], stub: DefinitionServiceStub, address: str, *, live: bool) -> None:
    """Tells what the coordinator could not find out. Raises Failure with all faults that it finds in any of the definitions."""
    faults: list[str] = []
    for valid in read:
        request = definition_service_pb2.ValidateDefinitionRequest(
            definition=valid.message, live=live, registered_along=[other.message.name for other in read]
        )
        try:
            response = stub.ValidateDefinition(request, timeout=LIVE_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise refusal(error, address, valid.document) from None
        faults += [_told(valid, fault) for fault in response.faults]
        for warning in response.warnings:
            click.echo(f"warning: {_told(valid, warning)}", err=True)
    if faults:
        raise Failure(*faults)


def _told(valid: Valid, fault: definition_service_pb2.Fault) -> str:
    return f"{valid.document.locate(fault.path)}: {fault.path}: {fault.description}"


@definition.command(short_help="Register the definitions in FILES, if all are valid.")
@_files
@address_flag
def apply(files: tuple[Path, ...], address: str) -> None:
    """Register the definitions in FILES, once all of them are known to be valid.

    A definition whose content has not changed keeps its version; a changed one gets the next. Those that others run as children
    are registered before them.
    """
    read = read_definitions(files, may_use=True)
    with grpc.insecure_channel(address) as channel:
        stub = DefinitionServiceStub(channel)
        _check(read, stub, address, live=False)
        for valid in children_first(read):
            request = definition_service_pb2.RegisterDefinitionRequest(definition=valid.message)
            try:
                response = stub.RegisterDefinition(request, timeout=TIMEOUT_SECONDS)
            except grpc.RpcError as error:
                raise refusal(error, address, valid.document) from None
            outcome = "created" if response.created else "unchanged"
            click.echo(f"{valid.message.name} version {response.registered.version} ({outcome})")


for command in (*versions.COMMANDS, *exploring.COMMANDS):
    definition.add_command(command)
