"""`sagactl events ...`."""

from __future__ import annotations

import uuid
from typing import Any

import click

from sagactl.commands.limits import all_option, limit_option, limited
from sagactl.endings import WrongUsage
from sagactl.inputs import value_of
from sagactl.invocation import Asking, Invocation, note, pass_invocation
from sagactl.showing.formats import Column
from sagactl.showing.instants import day_and_time, instant
from sagactl.spans import duration_text


@click.group()
def events() -> None:
    """Publish and list events."""


@events.command(cls=Asking)
@click.argument("name")
@click.argument("correlation")
@click.option(
    "--id",
    "event_id",
    metavar="ID",
    help="The event's identity: it counts once, however often it is sent. [default: a new UUID]",
)
@click.option("--payload", metavar="VALUE", help="The payload: JSON or YAML, @FILE, or -.")
@click.option("--keep", metavar="SPAN", help="How long to keep it if no saga waits for it. [default: 7d]")
@pass_invocation
def publish(
    invocation: Invocation,
    name: str,
    correlation: str,
    event_id: str | None,
    payload: str | None,
    keep: str | None,
) -> None:
    """Send an event to every saga that waits for NAME about CORRELATION, and tell what became of it."""
    event: dict[str, Any] = {
        "event_id": event_id or str(uuid.uuid4()),
        "name": name,
        "correlation": correlation,
    }
    if payload is not None:
        event["payload"] = value_of(payload)
    request: dict[str, Any] = {"event": event}
    if keep is not None:
        try:
            request["keep_for"] = duration_text(keep)
        except ValueError as error:
            raise WrongUsage(f"--keep: {error}") from None
    answer = invocation.server.call("saga.v1.SagaService/PublishEvent", request)
    kept = day_and_time(instant(answer.get("kept_until")))
    told = [
        f"{answer['sagas']} sagas got it" if answer["sagas"] else "no saga waits for it now",
        f"it is kept until {kept} for the first that begins to wait" if kept else "",
        "it had been published before" if answer["duplicate"] else "",
    ]
    said = {"event_id": event["event_id"], **answer}
    invocation.output.one(said, lambda: "; ".join(part for part in told if part))


@events.command("list", cls=Asking)
@click.option("--untaken", is_flag=True, help="Only events that no saga has got, such as mistyped ones.")
@click.option("--name", default="", metavar="NAME", help="Only events of this name.")
@click.option("--correlation", default="", metavar="TEXT", help="Only events about this. Needs --name.")
@limit_option
@all_option
@pass_invocation
def list_(
    invocation: Invocation, untaken: bool, name: str, correlation: str, limit: int | None, is_all: bool
) -> None:
    """List the events of the last seven days, the newest first, and what became of them."""
    request = {"untaken": untaken, "name": name, "correlation": correlation}
    found = invocation.server.pages("saga.v1.SagaService/ListEvents", request, "events")
    columns = [
        Column("PUBLISHED", lambda row: day_and_time(instant(row.get("published_at")))),
        Column("NAME", "event.name"),
        Column("CORRELATION", "event.correlation"),
        Column("TAKEN", lambda row: day_and_time(instant(row.get("taken_at"))) or "no"),
        Column("KEPT UNTIL", lambda row: day_and_time(instant(row.get("kept_until")))),
        Column("TAKEN BY", "taken_by", is_wide=True),
        Column("EVENT", "event.event_id", is_wide=True),
        Column("PAYLOAD", "event.payload", is_wide=True),
    ]
    if not invocation.output.many(limited(invocation, found, limit, is_all=is_all), columns):
        note("There are no such events.")
