"""Logs: one event a line, whichever way it came, on standard error."""

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from functools import partial

import orjson
import pytest
import structlog

from saga_coordinator import telemetry


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    telemetry.flush()
    out, err = captured.readouterr()
    assert out == ""
    return [orjson.loads(line) for line in err.splitlines()]


def test_events_have_a_time_a_level_and_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="json")
    telemetry.logger().bind(saga_id="7").info("saga_parked", remaining=("a", "b"))
    (line,) = lines(capsys)
    assert list(line) == ["timestamp", "level", "event", "saga_id", "remaining"]
    assert (line["level"], line["event"], line["saga_id"]) == ("info", "saga_parked", "7")
    assert str(line["timestamp"]).endswith("Z")


def test_what_is_too_unimportant_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="json", log_level="warning")
    telemetry.logger().info("noise")
    telemetry.logger().warning("signal")
    assert [line["event"] for line in lines(capsys)] == ["signal"]


def test_an_error_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="json")
    try:
        raise RuntimeError("on\nfire")
    except RuntimeError as error:
        telemetry.logger().error("failed", exc_info=error)
    (line,) = lines(capsys)
    assert "RuntimeError: on\nfire" in str(line["exception"])


def test_libraries_log_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="json")
    logging.getLogger("grpc._server").warning("odd %s", "thing")
    logging.getLogger("sqlalchemy.engine").info("a statement")
    (line,) = lines(capsys)
    assert (line["level"], line["event"], line["logger"]) == ("warning", "odd thing", "grpc._server")


def test_what_a_library_says_time_and_again_is_a_few_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "Throttle", partial(telemetry.Throttle, clock=lambda: 0.0))
    telemetry.configure(log_format="json")
    for _ in range(1000):
        try:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        except UnicodeDecodeError:
            logging.getLogger("grpc").exception("Invalid encoding")
    told = lines(capsys)
    assert [line["logger"] for line in told] == ["grpc"] * telemetry.LINES_A_MINUTE_MAX


def test_pretty_lines_are_for_reading(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="pretty")
    telemetry.logger().info("serving", addresses=("127.0.0.1:7242",))
    logging.getLogger("grpc").warning("odd")
    telemetry.flush()
    out, err = capsys.readouterr()
    assert out == ""
    assert [word in err for word in ("serving", "addresses", "odd")] == [True] * 3
    assert "\x1b" not in err


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="auto")
    telemetry.logger().info("serving")
    assert lines(capsys)[0]["event"] == "serving"


class Gone(io.RawIOBase):
    """A terminal that has been closed, a pipe that nobody reads, a disk that is full."""

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # what is left is flushed in vain
@pytest.mark.parametrize("log_format", ["json", "pretty"])
@pytest.mark.parametrize("kind", ["gone", "closed", "none"])
def test_a_line_that_nobody_can_read_is_lost_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, log_format: str, kind: str
) -> None:
    gone = io.TextIOWrapper(io.BufferedWriter(Gone()), line_buffering=True)
    closed = io.TextIOWrapper(io.BytesIO())
    stream = {"gone": gone, "closed": closed, "none": None}[kind]
    monkeypatch.setattr(sys, "stderr", stream)
    telemetry.configure(log_format=log_format)
    closed.close()
    for _ in range(2):
        telemetry.logger().error("stopping", exc_info=RuntimeError("x"))
        logging.getLogger("grpc").warning("odd")


def test_what_json_has_no_words_for_is_logged_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(log_format="json")
    telemetry.logger().info("answered", count=1 << 70, text="\ud800")
    (line,) = lines(capsys)
    assert line["event"] == "answered"
    assert str(1 << 70) in str(line["unprintable"])


@pytest.mark.parametrize(
    ("environment", "has_colours"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
    ids=str,
)
def test_colours_are_for_terminals_that_want_them(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    has_colours: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    telemetry.configure(log_format="auto")
    telemetry.logger().info("serving")
    telemetry.flush()
    assert ("\x1b" in capsys.readouterr().err) is has_colours


def test_a_reader_that_has_stopped_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal after Ctrl-S, or a pipe whose reader hangs: more is logged than either takes, and the caller goes on."""
    read, write = os.pipe()
    with os.fdopen(write, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        telemetry.configure(log_format="json")
        for number in range(telemetry.LINES_WAITING_MAX + 2_000):
            telemetry.logger().info("told", number=number, padding="x" * 100)
        telemetry.flush(0.1)  # comes back although nothing is read
        with os.fdopen(read, "rb") as reader:  # it reads on: what was kept comes, from the first line
            first = orjson.loads(reader.readline())
            assert (first["event"], first["number"]) == ("told", 0)
            drain = threading.Thread(target=reader.read, daemon=True)
            drain.start()
            telemetry.flush(60)
            stream.close()
            drain.join()
