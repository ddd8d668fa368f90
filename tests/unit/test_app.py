"""What is heard of when several things go wrong, and that a signal is obeyed whatever becomes of the log."""

from __future__ import annotations

import asyncio
import signal
from unittest import mock

import pytest
from structlog.testing import capture_logs

from saga_coordinator import app
from saga_coordinator.saga.words.errors import SagaError


def an_app(*, start: Exception, stop: Exception) -> app.App:
    made = mock.create_autospec(app.App, instance=True)
    made.start.side_effect = start
    made.stop.side_effect = stop
    assert isinstance(made, app.App)
    return made


async def test_an_unruly_stop_does_not_hide_why_it_stops() -> None:
    failing = an_app(start=SagaError("the schema is too old"), stop=RuntimeError("cannot\nretire"))
    with capture_logs() as logs, pytest.raises(SagaError, match="the schema is too old"):
        await app._serve(failing, None, ends_with_terminal=True)
    assert [(line["event"], line["reason"]) for line in logs] == [("not_stopped_in_order", "cannot retire")]


async def test_an_unruly_stop_is_heard_of_when_nothing_else_is_wrong() -> None:
    with pytest.raises(RuntimeError, match="cannot retire"):
        await app._stop_after(None, an_app(start=SagaError(""), stop=RuntimeError("cannot retire")))


async def test_a_signal_is_obeyed_before_anything_is_said() -> None:
    stopping = asyncio.Event()
    with mock.patch.object(app, "log") as log:
        log.info.side_effect = OSError(5, "Input/output error")
        with pytest.raises(OSError, match="Input/output error"):
            app._stop(stopping, signal.SIGTERM)
    assert stopping.is_set()


async def test_a_terminal_that_is_said_twice_to_be_gone_still_leaves_time_to_stop_in() -> None:
    stopping = asyncio.Event()
    with capture_logs() as logs:
        app._hang_up(stopping)
        app._hang_up(stopping)
    assert stopping.is_set()
    assert [line["event"] for line in logs] == ["stopping"]
