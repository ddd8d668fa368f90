"""`sagactl participants ...`."""

from __future__ import annotations

from typing import Any

import click

from sagactl.completing import complete_participants
from sagactl.endings import Ending, WrongUsage
from sagactl.inputs import object_of
from sagactl.invocation import Asking, Invocation, note, pass_invocation
from sagactl.showing.entries import cause_text
from sagactl.showing.formats import Column, yaml_text
from sagactl.showing.instants import day_and_time, instant
from sagactl.showing.terminal import clean
from sagactl.showing.values import colour_of, short

SERVICE = "saga.v1.DirectoryService"
CONTROLS = ("automatic", "open", "closed")

Plain = dict[str, Any]

_name = click.argument("name", shell_complete=complete_participants)
_reason = click.option("--reason", metavar="TEXT", default="", help="Why, for the record of acts.")


@click.group()
def participants() -> None:
    """Where participants are, how they are, and their breakers."""


def _columns() -> list[Column]:
    return [
        Column("NAME", "participant.name"),
        Column(
            "TARGET",
            lambda row: row["participant"]["target"] or ("worker" if row["participant"]["worker"] else ""),
        ),
        Column("BREAKER", "breaker"),
        Column("SET TO", lambda row: short((row.get("breaker_setting") or {}).get("control"))),
        Column("IN FLIGHT", "in_flight"),
        Column("QUEUED", "queued"),
        Column("LAST", "last_outcome"),
        Column("LAST FAILURE", lambda row: cause_text(row.get("last_failure"))),
        Column("CONNECTION", "connectivity", is_wide=True),
        Column("SOURCE", "source", is_wide=True),
        Column("FAILED", lambda row: f"{row['failure_ratio']:.0%} of {row['calls_in_window']}", is_wide=True),
        Column("HELD", "held", is_wide=True),
    ]


@participants.command("list", cls=Asking)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the participants, and how they stand with the coordinator that answers."""
    found = invocation.server.pages(f"{SERVICE}/ListParticipants", {}, "statuses")
    if not invocation.output.many(found, _columns()):
        note("There are no participants.")


@participants.command(cls=Asking)
@_name
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show a participant, and how it stands with the coordinator that answers."""
    status = _status(invocation, name)
    invocation.output.one(status, lambda: clean_text(status))


def clean_text(status: Plain) -> str:
    """A participant for people: its fields, without the empty ones."""
    return yaml_text(
        {key: value for key, value in _filled(status).items() if value not in ("", None, {}, [])}
    )


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: kept for key, inner in value.items() if (kept := _filled(inner)) not in ("", None, {}, [])
        }
    return short(value) if isinstance(value, str) else value


def _status(invocation: Invocation, name: str) -> Plain:
    status: Plain = invocation.server.call(f"{SERVICE}/GetParticipant", {"name": name})["status"]
    return status


@participants.command(cls=Asking)
@_name
@pass_invocation
def health(invocation: Invocation, name: str) -> None:
    """Tell whether a participant gets calls. Exits with 1 while its breaker is open or its connection fails."""
    status = _status(invocation, name)
    breaker, connection = short(status["breaker"]), status["connectivity"]
    is_well = breaker != "OPEN" and connection != "TRANSIENT_FAILURE"
    said = {
        "name": name,
        "is_well": is_well,
        "breaker": status["breaker"],
        "connectivity": connection,
        "last_outcome": status["last_outcome"],
        "last_failure": status.get("last_failure"),
    }
    failure = cause_text(status.get("last_failure"))
    at = day_and_time(instant(status.get("last_failure_at")))
    shown = invocation.terminal.styled(breaker, colour_of(breaker))
    told = [
        f"{name} {'gets calls' if is_well else 'gets no calls'}: breaker {shown}",
        f"connection {connection}" if connection else "no call yet",
        f"last failure {failure} at {at}" if failure else "",
    ]
    invocation.output.one(said, lambda: ", ".join(part for part in told if part))
    click.get_current_context().exit(Ending.DONE if is_well else Ending.NO)


@participants.command(cls=Asking)
@_name
@click.argument("value", metavar="PARTICIPANT")
@_reason
@pass_invocation
def put(invocation: Invocation, name: str, value: str, reason: str) -> None:
    """Add a participant, or replace it as a whole: a target such as dns:///payments:443, or JSON, YAML, @FILE or -.

      sagactl participants put payments dns:///payments:443
    """  # fmt: skip
    is_target = not value.lstrip().startswith(("{", "@", "-")) and ": " not in value and "\n" not in value
    participant = {"target": value} if is_target else object_of(value, "a participant")
    if participant.get("name", name) != name:
        raise WrongUsage(f"the participant is called {participant['name']!r}, not {name!r}")
    answer = put_participant(invocation, {**participant, "name": name}, reason)
    invocation.output.one(
        {"name": name, **answer}, lambda: f"{name} is {'added' if answer['created'] else 'replaced'}"
    )


def put_participant(invocation: Invocation, participant: Plain, reason: str) -> Plain:
    """Puts it into the directory of the server."""
    request = {"participant": participant, "requested_by": invocation.requested_by, "reason": reason}
    return invocation.server.call(f"{SERVICE}/PutParticipant", request)


@participants.command(cls=Asking)
@_name
@_reason
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
@pass_invocation
def delete(invocation: Invocation, name: str, reason: str, is_sure: bool) -> None:
    """Remove a participant that was put into the directory. Attempts of sagas that name it are held then."""
    invocation.confirm(f"{clean(name)} will be gone; sagas that call it are held.", is_sure=is_sure)
    delete_participant(invocation, name, reason)
    invocation.output.one({"deleted": name}, lambda: f"{name} is deleted")


def delete_participant(invocation: Invocation, name: str, reason: str) -> None:
    """Removes it from the directory of the server."""
    request = {"name": name, "requested_by": invocation.requested_by, "reason": reason}
    invocation.server.call(f"{SERVICE}/DeleteParticipant", request)


@participants.command(cls=Asking)
@_name
@click.argument("control", type=click.Choice(CONTROLS))
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the record of acts.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
@pass_invocation
def breaker(invocation: Invocation, name: str, control: str, reason: str, is_sure: bool) -> None:
    """Open or close a participant's breaker at every coordinator, or leave it to itself again.

    open: no call is made. closed: calls are made, however badly they go. automatic: the outcomes of the calls decide.
    """
    if control != "automatic":
        effect = "no call is made any more" if control == "open" else "calls are made, however badly they go"
        invocation.confirm(f"The breaker of {clean(name)} will be {control}: {effect}.", is_sure=is_sure)
    request = {
        "participant": name,
        "control": f"BREAKER_CONTROL_{control.upper()}",
        "requested_by": invocation.requested_by,
        "reason": reason,
    }
    answer = invocation.server.call(f"{SERVICE}/SetBreaker", request)
    invocation.output.one(answer, lambda: f"the breaker of {name} is {control}")
