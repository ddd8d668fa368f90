"""`sagactl definitions ...`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sagactl.commands.limits import all_option, limit_option, limited
from sagactl.completing import complete_definitions
from sagactl.differences import differences
from sagactl.endings import Ending, WrongUsage
from sagactl.inputs import documents_in, read_text
from sagactl.invocation import Asking, Invocation, note, pass_invocation, warn
from sagactl.showing.formats import Column, yaml_text
from sagactl.showing.instants import day_and_time, instant
from sagactl.showing.terminal import clean

SERVICE = "saga.v1.DefinitionService"
DELETE_SECONDS = 30.0
"""A deletion waits until every coordinator knows of it."""

Plain = dict[str, Any]
Which = tuple[str, int]


class _Version(click.ParamType[Which]):
    """Reads NAME@VERSION, or NAME for version 0 where that is allowed."""

    name = "version"

    def __init__(self, *, is_required: bool) -> None:
        self._is_required = is_required

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Which:
        name, at, version = str(value).rpartition("@")
        if not at and not self._is_required:
            return str(value), 0
        if not name or not version.isascii() or not version.isdigit() or int(version) < 1:
            self.fail(f"{value!r} is not NAME@VERSION, such as order@3", param, ctx)
        return name, int(version)


_version = click.argument(
    "which", metavar="NAME@VERSION", type=_Version(is_required=True), shell_complete=complete_definitions
)
_maybe_version = click.argument(
    "which", metavar="NAME[@VERSION]", type=_Version(is_required=False), shell_complete=complete_definitions
)
_reason = click.option("--reason", metavar="TEXT", default="", help="Why, for the record of acts.")
_sure = click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")


@click.group()
def definitions() -> None:
    """The versions of definitions at the server. `sagactl apply` registers definitions."""


@definitions.command("list", cls=Asking)
@click.argument("name", required=False, default="", shell_complete=complete_definitions)
@limit_option
@all_option
@pass_invocation
def list_(invocation: Invocation, name: str, limit: int | None, is_all: bool) -> None:
    """List the newest version of each definition, or all versions of NAME."""
    request = {"name": name} if name else {}
    found = invocation.server.pages(f"{SERVICE}/ListDefinitions", request, "definitions")
    rows = (_summary(each) for each in found)
    columns = [
        Column("NAME", "name"),
        Column("VERSION", "version"),
        Column("REGISTERED", lambda row: day_and_time(instant(row["registered_at"]))),
        Column("MARKS", lambda row: " ".join(mark for mark in ("default", "deprecated") if row[mark])),
        Column("STEPS", "steps"),
        Column("DESCRIPTION", "description"),
        Column("DIGEST", "digest", is_wide=True),
    ]
    if not invocation.output.many(limited(invocation, rows, limit, is_all=is_all), columns):
        note("There are no such definitions.")


def _summary(registered: Plain) -> Plain:
    definition = registered["definition"]
    return {
        "name": definition["name"],
        "version": registered["version"],
        "digest": registered["digest"],
        "registered_at": registered.get("registered_at"),
        "default": registered["is_default"],
        "deprecated": registered["deprecated"],
        "steps": len(definition["steps"]),
        "description": definition["description"],
    }


@definitions.command(cls=Asking)
@_maybe_version
@pass_invocation
def get(invocation: Invocation, which: Which) -> None:
    """Print a version, or the newest, as YAML that you can change and apply; as data with all that is known of it."""
    registered = read_definition(invocation, which)
    remark = f"# {which[0]}@{registered['version']}, registered {day_and_time(instant(registered.get('registered_at')))}"
    invocation.output.one(registered, lambda: f"{remark}\n{yaml_text(registered['definition'])}")


def read_definition(invocation: Invocation, which: Which) -> Plain:
    """A registered version, without the fields that it leaves empty."""
    name, version = which
    answer = invocation.server.call(
        f"{SERVICE}/GetDefinition", {"name": name, "version": version}, defaults=False
    )
    registered: Plain = answer["registered"]
    return registered


@definitions.command(cls=Asking)
@click.argument("before", metavar="A", shell_complete=complete_definitions)
@click.argument("after", metavar="B", shell_complete=complete_definitions)
@pass_invocation
def diff(invocation: Invocation, before: str, after: str) -> None:
    """Say what differs from A to B, each a FILE or a NAME[@VERSION] at the server. Exits with 1 if anything does.

    `saga-coordinator definition diff` also judges which changes break those who start sagas.
    """
    old, new = _side(invocation, before), _side(invocation, after)
    found = list(differences(old, new))
    said = {"before": before, "after": after, "differences": [asdict(each) for each in found]}
    text = "\n".join(clean(each.text) for each in found) or f"{before} and {after} say the same"
    invocation.output.one(said, lambda: text)
    click.get_current_context().exit(Ending.NO if found else Ending.DONE)


def _side(invocation: Invocation, written: str) -> Plain:
    if (
        written == "-"
        or Path(written).suffix.lower() in (".yaml", ".yml", ".json")
        or Path(written).is_file()
    ):
        found = documents_in(read_text(written), written)
        if len(found) != 1 or not isinstance(found[0], dict):
            raise WrongUsage(f"{written}: must have one definition")
        return canonical(invocation, found[0])
    which = _Version(is_required=False).convert(written, None, None)
    definition: Plain = read_definition(invocation, which)["definition"]
    return definition


def canonical(invocation: Invocation, written: Plain) -> Plain:
    """A definition as the server would give it back: numbers, spans and names in one form. Raises WrongUsage."""
    from sagactl.contract.plain import message_from, plain_of  # noqa: PLC0415

    method = invocation.server.method(f"{SERVICE}/RegisterDefinition")
    kind: Any = method.input_type.fields_by_name["definition"].message_type
    contract = invocation.server.contract
    form: Plain = plain_of(message_from(written, kind, contract), contract)
    return form


@definitions.command(cls=Asking)
@click.argument("files", nargs=-1, required=True)
@click.option("--live", is_flag=True, help="Ask the participants, too, whether they have what is called.")
@pass_invocation
def validate(invocation: Invocation, files: tuple[str, ...], live: bool) -> None:
    """Check the definitions in FILES, and store nothing. `-` is standard input."""
    read = [(file, each) for file in files for each in documents_in(read_text(file), file)]
    names = [str(each.get("name")) for _, each in read if isinstance(each, dict)]
    faults = []
    for file, definition in read:
        request = {"definition": definition, "live": live, "registered_along": names}
        answer = invocation.server.call(f"{SERVICE}/ValidateDefinition", request)
        faults += [{"file": file, **fault} for fault in answer["faults"]]
        for warning in answer["warnings"]:
            warn(clean(f"{file}: {warning['path']}: {warning['description']}"))
    text = "\n".join(clean(f"{each['file']}: {each['path']}: {each['description']}") for each in faults)
    invocation.output.one({"faults": faults}, lambda: text or f"{len(read)} valid")
    click.get_current_context().exit(Ending.REFUSED if faults else Ending.DONE)


@definitions.command(cls=Asking)
@_version
@click.option("--undo", is_flag=True, help="Take the deprecation back.")
@_reason
@pass_invocation
def deprecate(invocation: Invocation, which: Which, undo: bool, reason: str) -> None:
    """Deprecate a version, so that no more sagas start with it. Sagas that run go on."""
    request = {**_named(which), "deprecated": not undo, **_why(invocation, reason)}
    registered = _summary(invocation.server.call(f"{SERVICE}/DeprecateDefinition", request)["registered"])
    state = "deprecated" if registered["deprecated"] else "not deprecated"
    invocation.output.one(registered, lambda: f"{registered['name']}@{registered['version']} is {state}")


@definitions.command(cls=Asking)
@_maybe_version
@click.option("--newest", is_flag=True, help="Use the newest again, whichever that is.")
@_reason
@pass_invocation
def default(invocation: Invocation, which: Which, newest: bool, reason: str) -> None:
    """Make a version the default: starts that name no version use it."""
    if (which[1] == 0) is not newest:
        raise WrongUsage("name a version, as in order@3, or say --newest")
    request = {**_named(which), **_why(invocation, reason)}
    registered = _summary(invocation.server.call(f"{SERVICE}/SetDefaultVersion", request)["registered"])
    invocation.output.one(
        registered, lambda: f"starts of {registered['name']} use version {registered['version']}"
    )


@definitions.command(cls=Asking)
@_version
@_reason
@_sure
@pass_invocation
def delete(invocation: Invocation, which: Which, reason: str, is_sure: bool) -> None:
    """Delete a version that no saga refers to."""
    title = f"{which[0]}@{which[1]}"
    invocation.confirm(f"{title} will be gone, and its number is not used again.", is_sure=is_sure)
    request = {**_named(which), **_why(invocation, reason)}
    invocation.server.call(f"{SERVICE}/DeleteDefinition", request, seconds=DELETE_SECONDS)
    invocation.output.one({"deleted": title}, lambda: f"{title} is deleted")


def _named(which: Which) -> Plain:
    return {"name": which[0], "version": which[1]}


def _why(invocation: Invocation, reason: str) -> Plain:
    return {"requested_by": invocation.requested_by, "reason": reason}
