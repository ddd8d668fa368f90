"""`sagactl describe` and `sagactl list-methods`: what the contract says, as the server itself describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sagactl.completing import complete_methods
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.formats import Column
from sagactl.showing.terminal import clean

if TYPE_CHECKING:
    from sagactl.contract.contract import Contract


_STREAMS = {(False, False): "", (True, False): "in", (False, True): "out", (True, True): "both ways"}
"""How a method streams, by whether it takes a stream and whether it sends one."""


@click.command(cls=Asking)
@click.argument("name", shell_complete=complete_methods)
@pass_invocation
def describe(invocation: Invocation, name: str) -> None:
    """Say what the contract says of NAME: a service, a method, a message, an enum or a field.

      sagactl describe StartSaga

      sagactl describe saga.v1.Saga.remaining_effects
    """  # fmt: skip
    from sagactl.contract.describing import described, lines_of  # noqa: PLC0415

    said = invocation.server.described(lambda contract: described(contract.symbol(name), contract))
    terminal = invocation.terminal
    columns = min(terminal.columns, 110)

    def wrap(text: str, indent: str) -> list[str]:
        return terminal.wrapped(text, indent, columns)

    invocation.output.one(said, lambda: "\n".join(map(clean, lines_of(said, wrap))))


@click.command("list-methods", cls=Asking)
@click.argument("service", required=False, default="")
@pass_invocation
def list_methods(invocation: Invocation, service: str) -> None:
    """List the methods of the server, or of the services whose names have SERVICE in them."""
    rows = invocation.server.described(lambda contract: _methods(contract, service))
    columns = [
        Column("METHOD", "method"),
        Column("STREAMS", lambda row: _STREAMS[row["takes_stream"], row["sends_stream"]]),
        Column("WHAT IT DOES", lambda row: row["comment"].partition(". ")[0].rstrip(".")),
    ]
    invocation.output.many(rows, columns)


def _methods(contract: Contract, part: str) -> list[dict[str, Any]]:
    rows = []
    for name in contract.services():
        found = contract.service(name)
        if found is None or part.lower() not in name.lower():
            continue
        rows += [
            {
                "method": f"{name}/{method.name}",
                "takes_stream": bool(method.client_streaming),
                "sends_stream": bool(method.server_streaming),
                "request": method.input_type.full_name,
                "response": method.output_type.full_name,
                "comment": contract.comment(method),
            }
            for method in found.methods
        ]
    return rows
