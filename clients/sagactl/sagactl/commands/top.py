"""`sagactl top`."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Any

import click

from sagactl.endings import Unavailable, WrongUsage
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.top_screen import COUNTED_MAX, UNFINISHED, Look, Screen
from sagactl.spans import seconds_of


@click.command(cls=Asking)
@click.option("--every", default="2s", metavar="SPAN", help="How often to look. [default: 2s]")
@click.option(
    "--times",
    type=click.IntRange(1),
    metavar="N",
    help="Look so many times, and end. [default: until Ctrl-C; once without a terminal]",
)
@pass_invocation
def top(invocation: Invocation, every: str, times: int | None) -> None:
    """Show what the server does, live: sagas by status, starts a second, participants, and what needs a person."""
    try:
        pause = seconds_of(every)
    except ValueError as error:
        raise WrongUsage(f"--every: {error}") from None
    if not (invocation.terminal.is_terminal and invocation.output.is_for_people):
        _in_lines(invocation, pause, times or 1)
        return
    from rich.console import Console  # noqa: PLC0415  # only this screen needs it
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    before, console = None, Console()
    with Live(console=console, screen=times is None, auto_refresh=False) as live:
        for number in range(times) if times else iter(int, 1):
            look = _look(invocation, before)
            size = shutil.get_terminal_size()
            screen = Screen(look, before, invocation.terminal, max(size.lines - 1, 5))
            live.update(Text.from_ansi("\n".join(screen.lines()), no_wrap=True), refresh=True)
            before = look
            if times is None or number + 1 < times:
                time.sleep(pause)


def _in_lines(invocation: Invocation, pause: float, times: int) -> None:
    before = None
    for number in range(times):
        look = _look(invocation, before)
        screen = Screen(look, before, invocation.terminal, rows=1000)
        invocation.output.item(look.plain(before), lambda screen=screen: "\n".join(screen.lines()))  # type: ignore[misc]  # the default binds it now
        before = look
        if number + 1 < times:
            time.sleep(pause)


def _look(invocation: Invocation, before: Look | None) -> Look:
    """Looks at the server. While it is away, the look before is shown with what is wrong."""
    at = datetime.now(UTC)
    try:
        return Look(
            at,
            invocation.connection.address,
            {status: _sagas(invocation, {"statuses": [f"SAGA_STATUS_{status}"]}) for status in UNFINISHED},
            _sagas(invocation, {}),
            list(invocation.server.pages("saga.v1.DirectoryService/ListParticipants", {}, "statuses")),
        )
    except Unavailable as problem:
        if before is None:
            raise
        return Look(at, before.address, before.sagas, before.newest, before.participants, problem.lines[0])


def _sagas(invocation: Invocation, request: dict[str, Any]) -> list[dict[str, Any]]:
    page = invocation.server.call("saga.v1.SagaService/ListSagas", {**request, "page_size": COUNTED_MAX})
    found: list[dict[str, Any]] = page["sagas"]
    return found
