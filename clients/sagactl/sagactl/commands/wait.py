"""`sagactl wait`."""

from __future__ import annotations

import time
from typing import Any

import click

from sagactl.commands.sagas import STATUSES, end_with, saga_argument, status_value
from sagactl.endings import Ending, Unavailable, WrongUsage
from sagactl.following import followed
from sagactl.invocation import Asking, Invocation, note, pass_invocation, warn
from sagactl.showing.values import short
from sagactl.spans import in_words, seconds_of

_CALL_SECONDS = 20.0
"""One question to the server takes no longer, so that proxies do not cut it off."""


_PAUSE_SECONDS = 1.0
"""Before a server that went away is asked again."""


@click.command(cls=Asking)
@saga_argument
@click.option(
    "--for",
    "wanted",
    default="settled",
    metavar="STATUS",
    help=f"settled (ended, or in need of a person), or one of: {', '.join(STATUSES)}. [default: settled]",
)
@click.option("--within", default="1h", metavar="SPAN", help="How long to wait at most. [default: 1h]")
@pass_invocation
def wait(invocation: Invocation, saga: str, wanted: str, within: str) -> None:
    """Wait until a saga has ended or needs a person, or until it has a STATUS. For scripts.

    With --for settled: 0 if the saga completed, else 1. With another status: 0 once the saga has it, 1 if it never will. 5: the
    time is over.
    """  # fmt: skip
    try:
        seconds = seconds_of(within)
    except ValueError as error:
        raise WrongUsage(f"--within: {error}") from None
    identity = invocation.identity_of(saga)
    give_up_at = time.monotonic() + seconds
    if wanted != "settled":
        _until(invocation, identity, str(status_value(wanted)).removeprefix("SAGA_STATUS_"), give_up_at)
        return
    # Asked first, so that a wrong name is told at once, and what is lost later is a restart and not a wrong address.
    present = invocation.server.call("saga.v1.SagaService/GetSaga", {"saga_id": identity})["saga"]
    note(f"{identity} is {short(present['status'])}; waiting")
    while (left := give_up_at - time.monotonic()) > 0:
        found = _settled(invocation, identity, min(left, _CALL_SECONDS))
        if found is not None:
            if not invocation.output.is_for_people:
                invocation.output.one(found, str)
            end_with(invocation, found)
    raise Unavailable(f"{identity} is not settled after {in_words(seconds)}")


def _settled(invocation: Invocation, identity: str, seconds: float) -> dict[str, Any] | None:
    """The saga once it is settled; None if it is not after so many seconds, or if the server went away meanwhile."""
    server = invocation.server
    request = {"saga_id": identity, "timeout": f"{seconds:.3f}s"}
    try:
        answer = server.call(
            "saga.v1.SagaService/WaitSaga", request, seconds=seconds + server.connection.timeout_seconds
        )
    except Unavailable as problem:
        warn(f"{problem.lines[0]}; waiting on")
        time.sleep(min(seconds, _PAUSE_SECONDS))
        return None
    saga: dict[str, Any] = answer["saga"]
    return saga if answer["settled"] else None


def _until(invocation: Invocation, identity: str, wanted: str, give_up_at: float) -> None:
    saga: dict[str, Any] = {}
    for answer in followed(invocation.server, identity, seconds_left=lambda: give_up_at - time.monotonic()):
        saga = answer["saga"]
        if short(saga["status"]) == wanted:
            invocation.output.one(saga, lambda: f"{identity} is {wanted}")
            click.get_current_context().exit(Ending.DONE)
    invocation.output.one(
        saga, lambda: f"{identity} is {short(saga.get('status'))}, and will not be {wanted}"
    )
    click.get_current_context().exit(Ending.NO)
