"""`sagactl health`."""

from __future__ import annotations

import click

from sagactl.endings import Ending
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.values import colour_of

CHECK = "grpc.health.v1.Health/Check"


@click.command(cls=Asking)
@click.argument("service", required=False, default="")
@pass_invocation
def health(invocation: Invocation, service: str) -> None:
    """Tell whether the server lives, or whether SERVICE, such as saga.v1.SagaService, would be served now.

    Exits with 0 for SERVING, else with 1.
    """
    answer = invocation.server.call(CHECK, {"service": service})
    status = str(answer["status"])
    invocation.output.one(answer, lambda: invocation.terminal.styled(status, colour_of(status)))
    click.get_current_context().exit(Ending.DONE if status == "SERVING" else Ending.NO)
