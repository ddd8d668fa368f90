"""`sagactl groups`."""

from __future__ import annotations

import click

from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.formats import Column
from sagactl.showing.instants import day_and_time, instant


@click.command(cls=Asking)
@pass_invocation
def groups(invocation: Invocation) -> None:
    """List the claim groups: their coordinators, and how many sagas wait for one."""
    columns = [
        Column("GROUP", "name"),
        Column("SERVED", "served"),
        Column("COORDINATORS", "coordinators_alive"),
        Column("WAITING", "sagas_waiting"),
        Column("SINCE", lambda row: day_and_time(instant(row.get("waiting_since")))),
        Column("VERSIONS", lambda row: ",".join(sorted({each["version"] for each in row["coordinators"]}))),
        Column("WHO", "coordinators.coordinator_id", is_wide=True),
    ]
    invocation.output.many(
        invocation.server.pages("saga.v1.DirectoryService/ListGroups", {}, "groups"), columns
    )
