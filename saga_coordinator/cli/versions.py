"""`saga-coordinator definition list|get|diff|deprecate|default|delete`: the versions of definitions at a coordinator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import grpc
import yaml

from saga_coordinator.cli.definition_files import TIMEOUT_SECONDS, plain, read_definitions, refusal
from saga_coordinator.cli.options import Failure, address_flag
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as pb
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.saga.definition.diff import compare_definitions
from saga_coordinator.saga.words.change import Change

TROUBLE = 2
"""The exit code of `diff` when it could not compare, as the system's own `diff` has it."""
DELETE_TIMEOUT_SECONDS = 30.0
"""Seconds. The coordinator waits until all other coordinators know of the deletion."""

_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print it.",
)


class _Version(click.ParamType[tuple[str, int]]):
    """Reads NAME@VERSION, or NAME for version 0 if that is allowed."""

    name = "version"

    def __init__(self, *, is_version_required: bool) -> None:
        self._is_version_required = is_version_required

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        name, at, version = str(value).rpartition("@")
        if not at and not self._is_version_required:
            return str(value), 0
        if not name or not version.isascii() or not version.isdigit() or not 1 <= int(version) < 2**31:
            self.fail(f"{value!r} is not NAME@VERSION, such as order@3", param, ctx)
        return name, int(version)


_version = click.argument("which", metavar="NAME@VERSION", type=_Version(is_version_required=True))
_maybe_version = click.argument("which", metavar="NAME[@VERSION]", type=_Version(is_version_required=False))


@contextmanager
def _service(address: str, *, exit_code: int = 1) -> Iterator[DefinitionServiceStub]:
    """The service at `address`. A request that it refuses ends the command."""
    with grpc.insecure_channel(address) as channel:
        try:
            yield DefinitionServiceStub(channel)
        except grpc.RpcError as error:
            raise refusal(error, address, exit_code=exit_code) from None


@click.command("list", short_help="List the definitions, or the versions of one.")
@click.argument("name", required=False, default="")
@_format
@address_flag
def list_(name: str, form: str, address: str) -> None:
    """List the newest version of every definition, or all versions of NAME."""
    with _service(address) as service:
        found = list(_pages(service, name))
    if form == "json":
        click.echo(json.dumps([_summary(each) for each in found], indent=2))
        return
    for each in found:
        click.echo("  ".join(str(value) for value in (_title(each), _instant(each), *_marks(each))))


def _pages(service: DefinitionServiceStub, name: str) -> Iterator[pb.RegisteredDefinition]:
    request = pb.ListDefinitionsRequest(name=name)
    while True:
        response = service.ListDefinitions(request, timeout=TIMEOUT_SECONDS)
        yield from response.definitions
        request.page_token = response.next_page_token
        if not request.page_token:
            return


def _title(registered: pb.RegisteredDefinition) -> str:
    return f"{registered.definition.name}@{registered.version}"


def _instant(registered: pb.RegisteredDefinition) -> str:
    return registered.registered_at.ToDatetime().isoformat(sep=" ", timespec="seconds") + "Z"


def _marks(registered: pb.RegisteredDefinition) -> list[str]:
    marks = {"default": registered.is_default, "deprecated": registered.deprecated}
    return [mark for mark, holds in marks.items() if holds]


def _summary(registered: pb.RegisteredDefinition) -> dict[str, Any]:
    return {
        "name": registered.definition.name,
        "version": registered.version,
        "digest": registered.digest,
        "registered_at": registered.registered_at.ToJsonString(),
        "is_default": registered.is_default,
        "deprecated": registered.deprecated,
    }


@click.command(short_help="Print a definition as YAML, which you can change and apply.")
@_maybe_version
@_format
@address_flag
def get(which: tuple[str, int], form: str, address: str) -> None:
    """Print a version of a definition, or the newest; as YAML that `apply` takes, or as JSON with what is known of it."""
    with _service(address) as service:
        registered = _get(service, which)
    spec = plain(registered.definition)
    if form == "json":
        click.echo(json.dumps({**_summary(registered), "definition": spec}, indent=2, ensure_ascii=False))
        return
    remark = ", ".join((_title(registered), f"registered {_instant(registered)}", *_marks(registered)))
    click.echo(f"# {remark}\n{_yaml(spec)}", nl=False)


def _yaml(spec: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=120)
    return text


def _get(service: DefinitionServiceStub, which: tuple[str, int]) -> pb.RegisteredDefinition:
    name, version = which
    request = pb.GetDefinitionRequest(name=name, version=version)
    return service.GetDefinition(request, timeout=TIMEOUT_SECONDS).registered


@click.command(short_help="Say what changed between two definitions.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_format
@address_flag
def diff(before: str, after: str, form: str, address: str) -> None:
    """Say what changed from A to B, each a FILE or a NAME[@VERSION] at the coordinator, and what of it is breaking.

    Exits with 0 if nothing is, 1 if something is, and 2 if they could not be compared. Breaking (`!`) is what may keep those who
    start sagas, or read their output, from going on as they are, or what is not undone any more.
    """
    (old_title, old), (new_title, new) = (_side(each, address) for each in (before, after))
    changes = compare_definitions(old, new)
    broken = sum(change.is_breaking for change in changes)
    if form == "json":
        said = {"before": old_title, "after": new_title, "is_breaking": broken > 0}
        click.echo(
            json.dumps(
                {**said, "changes": [asdict(change) for change in changes]}, indent=2, ensure_ascii=False
            )
        )
    else:
        for line in _told(old_title, new_title, changes):
            click.echo(line)
    if broken:
        click.get_current_context().exit(1)


def _told(old_title: str, new_title: str, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield f"{old_title} and {new_title} say the same"
        return
    yield f"{old_title} -> {new_title}"
    for change in changes:
        text = f"{change.path}: {change.description}" if change.path else change.description
        yield f"{'!' if change.is_breaking else ' '} {' '.join(text.split())}"
    broken = sum(change.is_breaking for change in changes)
    yield (
        f"{len(changes)} changes, {broken} of them breaking"
        if broken
        else f"{len(changes)} changes, none of them breaking"
    )


def _side(written: str, address: str) -> tuple[str, dict[str, Any]]:
    """The name of one side of the comparison, and its canonical JSON form. A text that looks like the name of a file is read as
    a file.
    """
    path = Path(written)
    if written != "-" and path.suffix.lower() not in (".yaml", ".yml", ".json") and not path.is_file():
        which = _as_version(written)
        with _service(address, exit_code=TROUBLE) as service:
            registered = _get(service, which)
        return _title(registered), plain(registered.definition)
    try:
        found = read_definitions([path])
    except Failure as failure:
        raise Failure(*failure.lines, exit_code=TROUBLE) from None
    if len(found) != 1:
        raise Failure(f"{written}: has {len(found)} definitions; name a file with one", exit_code=TROUBLE)
    return written, plain(found[0].message)


def _as_version(written: str) -> tuple[str, int]:
    which: tuple[str, int] = _Version(is_version_required=False).convert(written, None, None)
    return which


@click.command(short_help="Deprecate a version, so that no more sagas start with it.")
@_version
@click.option("--undo", is_flag=True, help="Take the deprecation back.")
@address_flag
def deprecate(which: tuple[str, int], undo: bool, address: str) -> None:
    """Deprecate a version, so that no more sagas start with it. Sagas that run go on."""
    name, version = which
    request = pb.DeprecateDefinitionRequest(name=name, version=version, deprecated=not undo)
    with _service(address) as service:
        registered = service.DeprecateDefinition(request, timeout=TIMEOUT_SECONDS).registered
    click.echo(f"{_title(registered)} is {'deprecated' if registered.deprecated else 'not deprecated'}")


@click.command(short_help="Choose the version for starts that name none.")
@_maybe_version
@click.option("--newest", is_flag=True, help="Use the newest again, whichever that is.")
@address_flag
def default(which: tuple[str, int], newest: bool, address: str) -> None:
    """Make NAME@VERSION the version for starts that name none. With --newest, that is the newest version not deprecated."""
    name, version = which
    if newest == bool(version):
        raise click.UsageError("name a version, NAME@VERSION, or give NAME and --newest")
    with _service(address) as service:
        request = pb.SetDefaultVersionRequest(name=name, version=version)
        registered = service.SetDefaultVersion(request, timeout=TIMEOUT_SECONDS).registered
    click.echo(f"starts of {name} without version use {_title(registered)}")


@click.command(short_help="Delete a version that no saga has ever used.")
@_version
@address_flag
def delete(which: tuple[str, int], address: str) -> None:
    """Delete a version that no saga, running or ended, refers to. Takes some seconds."""
    name, version = which
    with _service(address) as service:
        request = pb.DeleteDefinitionRequest(name=name, version=version)
        service.DeleteDefinition(request, timeout=DELETE_TIMEOUT_SECONDS)
    click.echo(f"{name}@{version} is deleted")


COMMANDS: Sequence[click.Command] = (list_, get, diff, deprecate, default, delete)
