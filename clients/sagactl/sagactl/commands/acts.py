"""`sagactl acts`."""

from __future__ import annotations

from typing import Any

import click

from sagactl.commands.limits import all_option, limit_option, limited
from sagactl.endings import WrongUsage
from sagactl.invocation import Asking, Invocation, note, pass_invocation
from sagactl.showing.formats import Column
from sagactl.showing.instants import day_and_time, instant


@click.command(cls=Asking)
@click.option(
    "--kind",
    type=click.Choice(["saga", "definition", "participant"]),
    help="Only acts on subjects of this kind.",
)
@click.option(
    "--subject",
    default="",
    metavar="NAME",
    help="Only acts on this saga, definition or participant. Needs --kind.",
)
@limit_option
@all_option
@pass_invocation
def acts(invocation: Invocation, kind: str | None, subject: str, limit: int | None, is_all: bool) -> None:
    """List what people did, and what was refused to them, the newest first."""
    if subject and kind is None:
        raise WrongUsage(
            "--subject needs --kind, since a definition and a participant may have the same name"
        )
    request: dict[str, Any] = {}
    if kind:
        request["subject_kind"] = f"ACT_SUBJECT_KIND_{kind.upper()}"
    if subject:
        request["subject"] = subject
    write_acts(invocation, request, limit, is_all)


def write_acts(invocation: Invocation, request: dict[str, Any], limit: int | None, is_all: bool) -> None:
    """Writes the acts that the request asks for."""
    found = invocation.server.pages("saga.v1.OperatorService/ListActs", request, "acts")
    columns = [
        Column("WHEN", lambda row: day_and_time(instant(row.get("recorded_at")))),
        Column("VERB", "verb"),
        Column("SUBJECT", lambda row: f"{row['subject']} {row['detail']}".rstrip()),
        Column("RESULT", "result"),
        Column("BY", lambda row: row["declared_by"] or row["principal"]),
        Column("REASON", lambda row: row["why"] or row["reason"]),
        Column("BEFORE", "state_before", is_wide=True),
        Column("AFTER", "state_after", is_wide=True),
        Column("PRINCIPAL", "principal", is_wide=True),
        Column("ACT", "act_id", is_wide=True),
    ]
    if not invocation.output.many(limited(invocation, found, limit, is_all=is_all), columns):
        note("There are no such acts.")
