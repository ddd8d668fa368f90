"""Logs: one stable snake_case event a line, with its ids bound; what libraries log goes the same way.

log = telemetry.logger()
log.info("saga_parked", saga_id=saga_id, remaining=remaining)
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

_LIBRARIES_LEVEL = logging.WARNING
"""What grpc, sqlalchemy and asyncio say below this is of use only to their own developers."""


def configure(*, log_format: str = "auto", log_level: str = "info") -> None:
    """Sets logging up for the whole process; logs go to standard error, so that standard output is for answers.

    Args:
        log_format: `json`, `pretty`, or `auto`: pretty on a terminal.
        log_level: `debug`, `info`, `warning` or `error`; calls below it cost next to nothing.
    """
    is_pretty = log_format == "pretty" or (log_format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _pretty() if is_pretty else _json()
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if is_pretty
        else structlog.BytesLoggerFactory(cast("BinaryIO", sys.stderr.buffer)),
        cache_logger_on_first_use=True,
    )
    _route_libraries(shared, rendering, max(level, _LIBRARIES_LEVEL))


def logger() -> FilteringBoundLogger:
    """A logger that looks its configuration up at its first line, so modules may make theirs when imported."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def _pretty() -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]


def _json() -> list[Processor]:
    def dumps(event: Any, **_: Any) -> bytes:
        first = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
        return orjson.dumps({**first, **event}, default=str, option=orjson.OPT_NON_STR_KEYS)

    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=dumps)]


def _route_libraries(shared: Sequence[Processor], rendering: Sequence[Processor], level: int) -> None:
    def with_logger_name(_: Any, __: str, event: Any) -> Any:
        record = event.get("_record")
        if record is not None:
            event["logger"] = record.name
        return event

    def as_text(_: Any, __: str, event: Any) -> Any:
        return event.decode() if isinstance(event, bytes) else event

    handler = logging.StreamHandler(sys.stderr)
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
