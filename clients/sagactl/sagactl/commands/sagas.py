"""`sagactl sagas ...`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from sagactl.acting import VerbGroup
from sagactl.commands.acts import write_acts
from sagactl.commands.limits import all_option, limit_option, limited
from sagactl.completing import complete_definitions, complete_labels, complete_sagas
from sagactl.endings import Ending, Problem, WrongUsage
from sagactl.following import followed
from sagactl.inputs import pairs_of, value_of
from sagactl.invocation import Asking, Invocation, note, pass_invocation
from sagactl.showing.entries import cause_text, entry_line
from sagactl.showing.formats import Column
from sagactl.showing.instants import from_now, instant
from sagactl.showing.saga_picture import Drawing
from sagactl.showing.terminal import clean
from sagactl.showing.values import short
from sagactl.spans import duration_text

SERVICE = "saga.v1.SagaService"
STATUSES = ("running", "compensating", "completed", "compensated", "needs_attention", "abandoned")

Plain = dict[str, Any]

saga_argument = click.argument("saga", metavar="SAGA", shell_complete=complete_sagas)


@click.group(cls=VerbGroup, verbs="sagas")
def sagas() -> None:
    """List, show, watch, start and cancel sagas, and act on them.

    SAGA is a saga's identity, or `key:START_KEY`.
    """


@sagas.command("list", cls=Asking)
@click.option(
    "--status",
    "-s",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help=f"Only these: {', '.join(STATUSES)}, or one that the server knows besides. May be repeated.",
)
@click.option(
    "--definition",
    "-d",
    default="",
    metavar="NAME",
    shell_complete=complete_definitions,
    help="Only sagas of this definition.",
)
@click.option(
    "--label",
    "-l",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_labels,
    help="Only sagas with this label. May be repeated.",
)
@limit_option
@all_option
@pass_invocation
def list_(
    invocation: Invocation,
    statuses: tuple[str, ...],
    definition: str,
    labels: tuple[str, ...],
    limit: int | None,
    is_all: bool,
) -> None:
    """List sagas, the newest first."""
    request: Plain = {
        "page_size": min(limit or 1000, 1000)
        if not invocation.output.is_for_people
        else min(limit or 101, 1000)
    }
    if is_all:
        request["page_size"] = 1000
    if statuses:
        request["statuses"] = [status_value(each) for each in statuses]
    if definition:
        request["definition"] = definition
    if labels:
        request["labels"] = pairs_of(labels, "--label")
    found = invocation.server.pages(f"{SERVICE}/ListSagas", request, "sagas")
    now = datetime.now(UTC)
    columns = [
        Column("SAGA", "saga_id"),
        Column("DEFINITION", lambda row: f"{row['definition']}@{row['version']}"),
        Column("STATUS", "status"),
        Column("STARTED", lambda row: from_now(instant(row.get("started_at")), now)),
        Column("START KEY", "start_key"),
        Column("FAILURE", lambda row: cause_text(row.get("failure"))),
        Column("REMAINING", "remaining_effects", is_wide=True),
        Column("LABELS", "labels", is_wide=True),
        Column("OWNER", "owner", is_wide=True),
    ]
    if not invocation.output.many(limited(invocation, found, limit, is_all=is_all), columns):
        note("There are no such sagas.")


def status_value(written: str) -> Any:
    """A status as the contract has it; a number stays one, for statuses that have no name here."""
    if written.isdigit():
        return int(written)
    word = written.upper().replace("-", "_")
    return word if word.startswith("SAGA_STATUS_") else f"SAGA_STATUS_{word}"


@sagas.command(cls=Asking)
@saga_argument
@click.option("--no-log", is_flag=True, help="Leave the log out.")
@pass_invocation
def show(invocation: Invocation, saga: str, no_log: bool) -> None:
    """Draw a saga: what was done and undone, each attempt with its key and cause, what it waits for, and what remains."""
    shown = read_saga(invocation, saga, with_log=not no_log)
    definition = _definition_of(invocation, shown["saga"]) if invocation.output.is_for_people else {}
    drawing = Drawing(shown["saga"], shown["log"], definition, datetime.now(UTC), invocation.terminal)
    invocation.output.one(shown, drawing.text)


def read_saga(invocation: Invocation, written: str, *, with_log: bool) -> Plain:
    """The saga with its whole log, which comes in parts."""
    chosen = {"start_key": written[4:]} if written.startswith("key:") else {"saga_id": written}
    shown = invocation.server.call(f"{SERVICE}/GetSaga", {**chosen, "include_log": with_log})
    log: list[Plain] = shown["log"]
    part = log
    while with_log and part and log[-1]["sequence"] < shown["saga"]["sequence"]:
        request = {**chosen, "include_log": True, "log_after_sequence": log[-1]["sequence"]}
        part = invocation.server.call(f"{SERVICE}/GetSaga", request)["log"]
        log += part
    return shown


def _definition_of(invocation: Invocation, saga: Mapping[str, Any]) -> Plain:
    """The definition, for what the drawing says of the steps; empty where it cannot be had."""
    try:
        request = {"name": saga["definition"], "version": saga["version"]}
        found = invocation.server.call("saga.v1.DefinitionService/GetDefinition", request, defaults=False)
    except Problem:
        return {}
    definition: Plain = found["registered"].get("definition", {})
    return definition


@sagas.command(cls=Asking)
@saga_argument
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    metavar="SEQUENCE",
    help="Only entries after this one. [default: all]",
)
@pass_invocation
def watch(invocation: Invocation, saga: str, after: int) -> None:
    """Follow a saga's log until it has ended or needs a person, also across restarts of the server.

    Exits with 0 if the saga completed, else with 1.
    """
    last: Plain = {}
    for answer in followed(invocation.server, invocation.identity_of(saga), after):
        last = answer["saga"]
        for entry in answer["entries"]:
            invocation.output.item(entry, lambda entry=entry: entry_line(entry))  # type: ignore[misc]  # the default binds it now
    end_with(invocation, last)


def end_with(invocation: Invocation, saga: Mapping[str, Any]) -> None:
    """Tells how the saga stands, and ends with 0 only if it has completed."""
    status = short(saga.get("status"))
    if invocation.output.is_for_people:
        failure = cause_text(saga.get("failure"))
        remaining = ", ".join(map(clean, saga.get("remaining_effects") or ()))
        told = [f"{saga.get('saga_id')} is {status}", failure, f"remaining: {remaining}" if remaining else ""]
        invocation.output.line("; ".join(part for part in told if part))
    click.get_current_context().exit(Ending.DONE if status == "COMPLETED" else Ending.NO)


@sagas.command(cls=Asking)
@click.argument("definition", shell_complete=complete_definitions)
@click.option(
    "--key",
    "start_key",
    metavar="KEY",
    help="The start key: the same key starts one saga, however often it is sent. [default: a new UUID]",
)
@click.option(
    "--input", "-i", "given", metavar="VALUE", help="The input: JSON or YAML, @FILE, or - for standard input."
)
@click.option("--label", "-l", "labels", multiple=True, metavar="KEY=VALUE", help="A label. May be repeated.")
@click.option("--deadline", metavar="SPAN", help="A deadline shorter than the definition's, such as 5m.")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until the saga has ended or needs a person, at most --timeout; then exit with 0 only if it completed.",
)
@pass_invocation
def start(
    invocation: Invocation,
    definition: str,
    start_key: str | None,
    given: str | None,
    labels: tuple[str, ...],
    deadline: str | None,
    wait: bool,
) -> None:
    """Start a saga of DEFINITION, which may be NAME@VERSION."""
    name, _, version = definition.partition("@")
    request: Plain = {"definition": name, "start_key": start_key or str(uuid.uuid4())}
    if version:
        if not version.isdigit():
            raise WrongUsage(f"{definition!r} is not NAME or NAME@VERSION")
        request["version"] = int(version)
    if given is not None:
        request["input"] = value_of(given)
    if labels:
        request["labels"] = pairs_of(labels, "--label")
    if deadline:
        request["deadline"] = _duration(deadline)
    if wait:
        request["wait"] = True
    answer = invocation.server.call(f"{SERVICE}/StartSaga", request)
    saga = answer["saga"]
    began = "started" if answer["created"] else "was started before by this key:"
    invocation.output.one(
        answer,
        lambda: f"{saga['saga_id']} {began} {saga['definition']}@{saga['version']}, {short(saga['status'])}",
    )
    if wait:
        click.get_current_context().exit(Ending.DONE if short(saga["status"]) == "COMPLETED" else Ending.NO)


def _duration(written: str) -> str:
    try:
        return duration_text(written)
    except ValueError as error:
        raise WrongUsage(str(error)) from None


@sagas.command(cls=Asking)
@saga_argument
@click.option("--reason", required=True, help="Why. It is kept in the log.")
@click.option("--dry-run", is_flag=True, help="Only show what would be undone.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
@pass_invocation
def cancel(invocation: Invocation, saga: str, reason: str, dry_run: bool, is_sure: bool) -> None:
    """Cancel a saga, so that what it did is undone. Shows first what that comes to."""
    identity = invocation.identity_of(saga)
    if dry_run or not is_sure:
        plan = invocation.server.call(f"{SERVICE}/PreviewCompensation", {"saga_id": identity})
        if dry_run:
            invocation.output.one(plan, lambda: plan_text(plan))
            return
        invocation.confirm(plan_text(plan), is_sure=is_sure)
    request = {"saga_id": identity, "reason": reason, "requested_by": invocation.requested_by}
    answer = invocation.server.call(f"{SERVICE}/CancelSaga", request)
    invocation.output.one(answer, lambda: f"{identity} is {short(answer['saga']['status'])}")


@sagas.command(cls=Asking)
@saga_argument
@pass_invocation
def preview(invocation: Invocation, saga: str) -> None:
    """Tell what would be undone, and how, if the saga failed now."""
    plan = invocation.server.call(f"{SERVICE}/PreviewCompensation", {"saga_id": invocation.identity_of(saga)})
    invocation.output.one(plan, lambda: plan_text(plan))


def plan_text(plan: Mapping[str, Any]) -> str:
    """What an undo would do, for people."""
    if plan.get("refusal"):
        remaining = ", ".join(plan.get("remaining_effects") or ()) or "none"
        return clean(f"There is no way back: {plan['refusal']}. Present effects: {remaining}.")
    lines = [f"awaited first: {', '.join(plan['in_flight'])}"] if plan.get("in_flight") else []
    for number, stage in enumerate(plan.get("stages") or (), 1):
        lines += [
            f"{number}. undo {call['step']}: {call['participant']} {call['method']}  key {call['idempotency_key']}"
            for call in stage["calls"]
        ]
    lines += [
        f"cannot be undone: {each['step']}: {each['problem']}" for each in plan.get("uncomputable") or ()
    ]
    if plan.get("remaining_effects"):
        lines.append(f"would remain: {', '.join(plan['remaining_effects'])}")
    lines.append(f"the saga would be {short(plan.get('status'))}")
    return "\n".join(map(clean, lines))


@sagas.command("acts", cls=Asking)
@saga_argument
@limit_option
@all_option
@pass_invocation
def acts_(invocation: Invocation, saga: str, limit: int | None, is_all: bool) -> None:
    """List what people did to a saga, and what was refused to them."""
    write_acts(
        invocation,
        {"subject_kind": "ACT_SUBJECT_KIND_SAGA", "subject": invocation.identity_of(saga)},
        limit,
        is_all,
    )


@sagas.command(cls=Asking)
@saga_argument
@click.argument("event")
@click.option(
    "--id",
    "event_id",
    metavar="ID",
    help="The event's identity: it counts once, however often it is sent. [default: a new UUID]",
)
@click.option("--payload", metavar="VALUE", help="The payload: JSON or YAML, @FILE, or -.")
@pass_invocation
def signal(invocation: Invocation, saga: str, event: str, event_id: str | None, payload: str | None) -> None:
    """Send an EVENT to one saga."""
    said: Plain = {"event_id": event_id or str(uuid.uuid4()), "name": event}
    if payload is not None:
        said["payload"] = value_of(payload)
    answer = invocation.server.call(
        f"{SERVICE}/SignalSaga", {"saga_id": invocation.identity_of(saga), "event": said}
    )
    invocation.output.one(
        answer, lambda: "the saga has it" if answer["applied"] else "the saga had it already"
    )
