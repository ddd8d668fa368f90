"""Writes the log: each line is one stable snake_case event, with its ids bound. The logs of libraries are written in the same
way.

log = telemetry.logger()
log.info("saga_parked", saga_id=saga_id, remaining=remaining)

Logging never raises: a decision must not depend on whether anybody reads the log.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, AnyStr, BinaryIO, Generic, TextIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from saga_coordinator.lifecycle import Service, daemon

LINES_WAITING_MAX = 10_000
"""The most lines that wait for a reader. Further lines are lost."""
LINES_A_MINUTE_MAX = 5
"""The most lines in a minute of each kind that strangers can cause."""
_KINDS_MAX = 1000
_LIBRARIES_LEVEL = logging.WARNING
"""The lowest level at which lines of grpc, sqlalchemy and asyncio are logged. Lines below it are of use only to their
developers.
"""


class _Lines:
    """A queue of lines on their way to standard error. Its own thread writes them.

    The reader of a terminal or a pipe may stop reading, and then a write waits for ever. That must not stop the coordinator. Up
    to `LINES_WAITING_MAX` lines wait for the reader; further lines are lost.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[IO[Any], Any]] = deque()
        self._changed = threading.Condition()
        self._is_writing = False
        self._has_thread = False

    def put(self, stream: IO[AnyStr], line: AnyStr) -> None:
        with self._changed:
            if len(self._waiting) < LINES_WAITING_MAX:
                self._waiting.append((stream, line))
                self._changed.notify_all()
            if not self._has_thread:
                self._has_thread = True
                daemon("logging", self._write)

    def flush(self, seconds: float) -> None:
        """Returns when all waiting lines have been written, or after so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_writing, seconds)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                waiting, self._waiting = self._waiting, deque()
                self._is_writing = True
            for stream, line in waiting:
                with suppress(OSError, ValueError):  # ValueError: it is closed
                    stream.write(line)
                    stream.flush()


_lines = _Lines()


def flush(seconds: float = 1.0) -> None:
    """Waits until everything that was logged is written, at most `seconds`. It is for code that ends the process or reads the
    log.
    """
    _lines.flush(seconds)


atexit.register(flush)


class _Lossy(Generic[AnyStr]):
    """A stream that writes to standard error while that works. When a terminal is closed, a pipe breaks or a disk is full,
    lines are lost.
    """

    def __init__(self, stream: IO[AnyStr] | None) -> None:
        self._stream: IO[AnyStr] | None = stream

    def write(self, line: AnyStr) -> None:
        if self._stream is not None:
            _lines.put(self._stream, line)

    def flush(self) -> None:
        """Each line is, when it is written."""


class Logs(Service):
    """The process's log: set up at the start, written out at the end. The arguments are those of `configure`."""

    def __init__(self, *, log_format: str, log_level: str) -> None:
        self._log_format = log_format
        self._log_level = log_level

    async def start(self) -> None:
        """Sets logging up."""
        configure(log_format=self._log_format, log_level=self._log_level)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Waits until everything that was logged is written."""
        flush()


def configure(*, log_format: str = "auto", log_level: str = "info") -> None:
    """Sets logging up for the whole process; logs go to standard error, so that standard output is for answers.

    Args:
        log_format: `json`, `pretty`, or `auto`: pretty on a terminal.
        log_level: `debug`, `info`, `warning` or `error`; calls below it cost next to nothing.
    """
    # Python has none when the program was started without.
    stream = cast("TextIO | None", sys.stderr)
    is_terminal = stream is not None and stream.isatty()
    is_pretty = log_format == "pretty" or (log_format == "auto" and is_terminal)
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _pretty(colors=is_terminal and _may_be_coloured(os.environ)) if is_pretty else _json()
    text = cast("TextIO", _Lossy(stream))
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(text)
        if is_pretty
        else structlog.BytesLoggerFactory(
            cast("BinaryIO", _Lossy(None if stream is None else stream.buffer))
        ),
        cache_logger_on_first_use=True,
    )
    _route_libraries(text, shared, rendering, max(level, _LIBRARIES_LEVEL))


def logger() -> FilteringBoundLogger:
    """A logger that looks up its configuration at its first line, so modules may make their loggers when they are imported."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _may_be_coloured(environment: Mapping[str, str]) -> bool:
    """By https://no-color.org, and where the terminal says that it cannot."""
    return not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _pretty(*, colors: bool) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=colors)]


def _json() -> list[Processor]:
    def dumps(event: Any, **_: Any) -> bytes:
        first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
        try:
            return orjson.dumps({**first, **event}, default=str, option=orjson.OPT_NON_STR_KEYS)
        except orjson.JSONEncodeError:  # numbers of more than 64 bits, half of a surrogate pair
            return json.dumps({**first, "unprintable": repr(event)}, default=repr).encode()

    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=dumps)]


class Throttle:
    """Lets a few lines of each kind through in a minute, and counts the lines that it leaves out. So the acts of strangers can
    be logged, and no stranger can fill a disk with them.
    """

    def __init__(
        self, lines_max: int = LINES_A_MINUTE_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lines_max = lines_max
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def admits(self, kind: str) -> int | None:
        """Decides on a line: None leaves it out. For the first line of a minute it returns the number of lines of that kind
        that were left out in the minute before; for other lines 0.
        """
        with self._lock:
            now = self._clock()
            since, count = self._kinds.get(kind, (-math.inf, 0))
            if now >= since + 60:
                if len(self._kinds) >= _KINDS_MAX:
                    self._kinds.clear()
                self._kinds[kind] = (now, 1)
                return max(0, count - self._lines_max)
            self._kinds[kind] = (since, count + 1)
            return 0 if count < self._lines_max else None


class _Rarely(logging.Filter):
    """Throttles the lines of libraries, by the place in their code."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._throttle.admits(f"{record.name}:{record.pathname}:{record.lineno}")
        if left_out:
            record.msg, record.args = (
                f"{record.getMessage()} (and {left_out} such lines left out before)",
                None,
            )
        return left_out is not None


def _route_libraries(
    stream: TextIO, shared: Sequence[Processor], rendering: Sequence[Processor], level: int
) -> None:
    def with_logger_name(_: Any, __: str, event: Any) -> Any:
        record = event.get("_record")
        if record is not None:
            event["logger"] = record.name
        return event

    def as_text(_: Any, __: str, event: Any) -> Any:
        return event.decode() if isinstance(event, bytes) else event

    handler = logging.StreamHandler(stream)
    handler.addFilter(_Rarely())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, with_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, as_text],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
