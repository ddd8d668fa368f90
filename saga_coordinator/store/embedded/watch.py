"""Keeps an embedded Postgres running for a program: if the server has ended, it is reported and started again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from saga_coordinator.lifecycle import daemon
from saga_coordinator.retrying import Pauses, retried_until
from saga_coordinator.store.embedded.binaries import EmbeddedPostgresError
from saga_coordinator.store.embedded.server import EmbeddedPostgres

_POLL_SECONDS = 0.2
_PAUSES = Pauses(0.5, 10.0)
"""Before it is started again, and before it is tried once more where that failed, ever longer."""

Tell = Callable[[str], None]


class Watch:
    """Starts `server`, watches it in a thread of its own until the block ends, and then stops it.

    `tell` is called from that thread with a sentence for each end and each failed start, with Postgres's last words in it.
    """

    def __init__(self, server: EmbeddedPostgres, tell: Tell) -> None:
        self._server = server
        self._tell = tell
        self._is_over = threading.Event()
        self._has_ended = threading.Event()

    def __enter__(self) -> Self:
        self._server.start()
        daemon("embedded-postgres", self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._has_ended.wait()
        self._server.stop()

    def _run(self) -> None:
        try:
            self._keep()
        finally:
            self._has_ended.set()

    def _keep(self) -> None:
        while not self._is_over.wait(_POLL_SECONDS):
            if self._server.is_running:
                continue
            self._tell(f"Postgres has ended: {self._server.last_words} ({self._server.log_path})")
            if not self._is_over.wait(_PAUSES.first_seconds):
                retried_until(
                    self._is_over,
                    self._restart,
                    EmbeddedPostgresError,
                    _PAUSES,
                    tell=lambda failed: self._tell(f"Postgres cannot be started again: {failed}"),
                )

    def _restart(self) -> None:
        self._server.restart()
        self._tell("Postgres is running again")
