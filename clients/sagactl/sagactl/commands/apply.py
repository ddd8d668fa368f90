"""`sagactl apply`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from sagactl.commands.definitions import SERVICE, canonical, read_definition
from sagactl.commands.participants import delete_participant, put_participant
from sagactl.declared import DEFINITION, PARTICIPANT, Declared, read_declared
from sagactl.differences import differences
from sagactl.endings import Ending, Lacking, NotFound, PartlyDone, Problem, Refused
from sagactl.invocation import Asking, Invocation, pass_invocation, warn
from sagactl.showing.formats import Column
from sagactl.showing.terminal import clean

Plain = dict[str, Any]

_FILLED_IN = frozenset({"timeout", "retry", "compensation_retry"})
"""What the server writes into operations that leave it out, from the participant's defaults."""
_BREAKER = {
    "window": "10s",
    "calls_min": 100,
    "failure_ratio": 0.8,
    "slow_ratio": 0.8,
    "rest": "1s",
    "rest_max": "30s",
    "probes": 5,
}
_DEFAULTS: Plain = {
    "load_balancing": "LOAD_BALANCING_PICK_FIRST",
    "limits": {"concurrency": 256, "breaker": _BREAKER},
}
"""What the server writes into a participant that leaves it out, as the contract says. Neither side of a comparison lacks it."""
_CHANGES = frozenset({"create", "change", "remove"})


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done for one thing that is declared, or no more. `action` is create, change, keep or remove."""

    action: str
    kind: str
    name: str
    said: tuple[str, ...] = ()
    declared: Declared | None = None

    def plain(self, **more: Any) -> Plain:
        """The change for programs."""
        return {
            "kind": self.kind,
            "name": self.name,
            "action": self.action,
            "differences": list(self.said),
            **more,
        }


@click.command(cls=Asking)
@click.option(
    "--file",
    "-f",
    "places",
    multiple=True,
    required=True,
    metavar="PLACE",
    help="A file, a folder with all its folders, or - for standard input. May be repeated.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Remove what the server has and the files do not: participants are deleted, definitions deprecated.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything changed, or would change.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the record of acts.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask before removing.")
@pass_invocation
def apply(
    invocation: Invocation,
    places: tuple[str, ...],
    prune: bool,
    dry_run: bool,
    exit_code: bool,
    reason: str,
    is_sure: bool,
) -> None:
    """Make the server have what files declare: definitions, participants, and kinds that a newer server knows.

    Everything is read and checked before anything is changed. Doing it again changes nothing.
    """
    declared = read_declared(places)
    changes = list(_changes(invocation, declared, prune=prune))
    _check(invocation, declared)
    removed = [each for each in changes if each.action == "remove"]
    columns = [
        Column("ACTION", "action"),
        Column("KIND", "kind"),
        Column("NAME", "name"),
        Column("WHAT", lambda row: row.get("result") or "; ".join(row["differences"])),
    ]
    if dry_run:
        invocation.output.many((each.plain(result="") for each in changes), columns)
    else:
        if removed:
            gone = "\n".join(clean(f"{each.kind} {each.name} will be removed") for each in removed)
            invocation.confirm(gone, is_sure=is_sure)
        done = list(_performed(invocation, changes, reason))
        invocation.output.many(done, columns)
        _tell_failures(done)
        changes = [each for each, result in zip(changes, done, strict=True) if result["is_changed"]]
    is_changed = any(each.action in _CHANGES for each in changes)
    click.get_current_context().exit(Ending.NO if exit_code and is_changed else Ending.DONE)


def _changes(invocation: Invocation, declared: list[Declared], *, prune: bool) -> Iterator[Change]:
    for each in declared:
        if each.kind == DEFINITION:
            yield _of_definition(invocation, each)
        elif each.kind == PARTICIPANT:
            yield _of_participant(invocation, each)
        else:
            _put_method(invocation, each.kind)
            yield Change("change", each.kind, each.name, declared=each)
    if prune:
        yield from _superfluous(invocation, {(each.kind, each.name) for each in declared})


def _of_definition(invocation: Invocation, declared: Declared) -> Change:
    wanted = canonical(invocation, declared.spec)
    listed = invocation.server.call(
        f"{SERVICE}/ListDefinitions", {"name": declared.name, "page_size": 1}, defaults=False
    )
    if not listed.get("definitions"):
        return Change("create", DEFINITION, declared.name, declared=declared)
    present = listed["definitions"][0]["definition"]
    found = [each for each in differences(present, wanted) if not _is_filled_in(each.path, each.after)]
    action = "change" if found else "keep"
    return Change(action, DEFINITION, declared.name, tuple(each.text for each in found), declared)


def _is_filled_in(path: str, after: Any) -> bool:
    return after is None and path.rpartition(".")[2] in _FILLED_IN


def _of_participant(invocation: Invocation, declared: Declared) -> Change:
    from sagactl.contract.plain import message_from, plain_of  # noqa: PLC0415

    contract = invocation.server.contract
    method = invocation.server.method("saga.v1.DirectoryService/PutParticipant")
    kind: Any = method.input_type.fields_by_name["participant"].message_type
    wanted = plain_of(message_from(declared.spec, kind, contract), contract)
    try:
        request = {"name": declared.name}
        status = invocation.server.call("saga.v1.DirectoryService/GetParticipant", request, defaults=False)[
            "status"
        ]
    except NotFound:
        return Change("create", PARTICIPANT, declared.name, declared=declared)
    wanted.pop("descriptor_set", None)  # which the server does not give back
    found = list(differences(_filled(status["participant"]), _filled(wanted)))
    is_in_file = status.get("source") == "PARTICIPANT_SOURCE_FILE"
    if found and is_in_file:
        raise Refused(
            f"{declared.source}: {declared.name} is in the participants file of the server; change it there"
        )
    return Change(
        "change" if found else "keep",
        PARTICIPANT,
        declared.name,
        tuple(each.text for each in found),
        declared,
    )


def _filled(participant: Plain) -> Plain:
    """The participant with the defaults of what it leaves out. Workers have no default for the calls at once."""
    limits = {**_DEFAULTS["limits"], **participant.get("limits", {})}
    if participant.get("worker") and "concurrency" not in participant.get("limits", {}):
        del limits["concurrency"]
    if "rate" in limits:
        limits.setdefault("burst", max(1, round(limits["rate"])))
    limits["breaker"] = {**_BREAKER, **limits["breaker"]}
    return {**_DEFAULTS, **participant, "limits": limits}


def _superfluous(invocation: Invocation, declared: set[tuple[str, str]]) -> Iterator[Change]:
    for each in invocation.server.pages("saga.v1.DefinitionService/ListDefinitions", {}, "definitions"):
        name = each["definition"]["name"]
        if (DEFINITION, name) not in declared and not each["deprecated"]:
            yield Change("remove", DEFINITION, name, ("deprecated",))
    for each in invocation.server.pages("saga.v1.DirectoryService/ListParticipants", {}, "statuses"):
        name = each["participant"]["name"]
        if (PARTICIPANT, name) not in declared and each["source"] == "PARTICIPANT_SOURCE_API":
            yield Change("remove", PARTICIPANT, name, ("deleted",))


def _check(invocation: Invocation, declared: list[Declared]) -> None:
    """Has the server check all definitions, before anything is changed. Raises Refused with every fault."""
    definitions = [each for each in declared if each.kind == DEFINITION]
    names = [each.name for each in definitions]
    participants = {each.name for each in declared if each.kind == PARTICIPANT}
    faults = []
    for each in definitions:
        request = {"definition": each.spec, "registered_along": names}
        answer = invocation.server.call(f"{SERVICE}/ValidateDefinition", request)
        faults += [
            f"{each.source}: {each.name}: {fault['path']}: {fault['description']}"
            for fault in answer["faults"]
        ]
        for warning in answer["warnings"]:
            if not any(f"`{name}`" in warning["description"] for name in participants):
                warn(clean(f"{each.source}: {each.name}: {warning['path']}: {warning['description']}"))
    if faults:
        raise Refused(*faults)


def _performed(invocation: Invocation, changes: list[Change], reason: str) -> Iterator[Plain]:
    """Performs the changes, in their order. After a failure the others are still tried, since they are independent."""
    for change in changes:
        try:
            is_changed, result = _perform(invocation, change, reason)
        except Problem as problem:
            yield change.plain(result=f"failed: {'; '.join(problem.lines)}", is_changed=False, failed=True)
        else:
            yield change.plain(result=result, is_changed=is_changed, failed=False)


def _perform(invocation: Invocation, change: Change, reason: str) -> tuple[bool, str]:
    """Whether anything was changed, and what, in words."""
    if change.action == "remove":
        return True, _remove(invocation, change, reason)
    assert change.declared is not None
    if change.kind == DEFINITION:
        # Registered even where nothing seems to differ: the server compares what it has kept, to the byte.
        answer = invocation.server.call(f"{SERVICE}/RegisterDefinition", {"definition": change.declared.spec})
        version = answer["registered"]["version"]
        return answer["created"], f"version {version}" + (" (new)" if answer["created"] else " (as before)")
    if change.action == "keep":
        return False, "as before"
    if change.kind == PARTICIPANT:
        put_participant(invocation, change.declared.spec, reason)
        return True, "added" if change.action == "create" else "replaced"
    method, field = _put_method(invocation, change.kind)
    answer = invocation.server.call(method, {field: change.declared.spec})
    return bool(answer.get("created", True)), "put"


def _remove(invocation: Invocation, change: Change, reason: str) -> str:
    if change.kind == PARTICIPANT:
        delete_participant(invocation, change.name, reason)
        return "deleted"
    why = {"name": change.name, "requested_by": invocation.requested_by, "reason": reason}
    if read_definition(invocation, (change.name, 0)).get("is_default"):
        invocation.server.call(f"{SERVICE}/SetDefaultVersion", {**why, "version": 0})
    for each in list(
        invocation.server.pages(f"{SERVICE}/ListDefinitions", {"name": change.name}, "definitions")
    ):
        if not each["deprecated"]:
            request = {**why, "version": each["version"], "deprecated": True}
            invocation.server.call(f"{SERVICE}/DeprecateDefinition", request)
    return "deprecated"


def _put_method(invocation: Invocation, kind: str) -> tuple[str, str]:
    """The method that takes what is declared of that kind, and the field for it. Raises Lacking."""
    name = "".join(part.capitalize() for part in kind.replace("-", "_").split("_"))
    for service in invocation.server.described(lambda contract: contract.services()):
        for verb in ("Put", "Register", "Create", "Set"):
            method = invocation.server.maybe_method(f"{service}/{verb}{name}")
            field = None if method is None else method.input_type.fields_by_name.get(kind.replace("-", "_"))
            if field is not None:
                return f"{service}/{verb}{name}", str(field.name)
    raise Lacking(
        f"this server knows no `kind: {kind}`: none of its methods is called Put{name}, Register{name} or Create{name}"
    )


def _tell_failures(done: list[Plain]) -> None:
    failed = [each for each in done if each["failed"]]
    if failed and len(failed) == len(done):
        raise Refused(*(f"{each['kind']} {each['name']}: {each['result']}" for each in failed))
    if failed:
        raise PartlyDone(*(f"{each['kind']} {each['name']}: {each['result']}" for each in failed))
