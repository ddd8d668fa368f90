"""`sagactl version`."""

from __future__ import annotations

from typing import Any

import click

from sagactl import __version__
from sagactl.endings import Problem
from sagactl.invocation import Asking, Invocation, pass_invocation


@click.command(cls=Asking)
@click.option("--client", is_flag=True, help="Only this program's; ask no server.")
@pass_invocation
def version(invocation: Invocation, client: bool) -> None:
    """Print the version of this program, and of the coordinators if they can be asked."""
    said: dict[str, Any] = {"sagactl": __version__, "coordinators": []}
    if not client:
        try:
            found = invocation.server.pages("saga.v1.DirectoryService/ListGroups", {}, "groups")
            said["coordinators"] = sorted(
                {each["version"] for group in found for each in group["coordinators"]}
            )
        except Problem as problem:
            said["problem"] = problem.lines[0]
    lines = [f"sagactl {__version__}"]
    if not client:
        known = ", ".join(said["coordinators"])
        lines.append(f"coordinators {known or 'unknown: ' + said.get('problem', 'none answered')}")
    invocation.output.one(said, lambda: "\n".join(lines))
