"""What people see: the drawing of a saga, tables, spans; at every width, and without what a participant could smuggle in."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sagactl.showing.formats import Column, Output
from sagactl.showing.saga_picture import Drawing
from sagactl.showing.terminal import Terminal, clean, width
from sagactl.showing.top_screen import Look, Screen
from sagactl.showing.values import colour_of, picked, short, worded
from sagactl.spans import duration_text, in_words, seconds_of
from tools import sagactl_screens

NOW = sagactl_screens.NOW
GREEN = "\x1b[32m"


def drawn(columns: int = 120, **more: Any) -> str:
    saga = {**sagactl_screens.SAGA, **more}
    terminal = Terminal(columns, has_colours=more.pop("has_colours", False))
    return Drawing(saga, sagactl_screens.LOG, sagactl_screens.DEFINITION, NOW, terminal).text()


@given(st.integers(min_value=36, max_value=200))
def test_a_drawing_fits_every_width(columns: int) -> None:
    """An identity has 36 characters, and is never cut."""
    lines = drawn(columns).splitlines()
    assert max(map(width, lines)) <= columns
    assert any(sagactl_screens.SAGA_ID in line for line in lines)


@pytest.mark.parametrize("columns", [40, 120])
def test_a_drawing_tells_both_lanes_causes_keys_and_what_remains(columns: int) -> None:
    text = " ".join(drawn(columns).replace("│", " ").split())
    for told in (
        "NEEDS_ATTENTION",
        "undo of reserve",
        "/charge/compensation",
        "card was declined",
        "may remain: reserve",
    ):
        assert told in text, told
    assert "a person, because of" in text
    assert "pivot" in text


@pytest.mark.parametrize("status", ["COMPENSATED", "NEEDS_ATTENTION", "ABANDONED", "COMPENSATING", "FROZEN"])
def test_only_what_took_effect_is_green(status: str) -> None:
    assert colour_of(status) != "green"
    title = drawn(has_colours=True, status=f"SAGA_STATUS_{status}").splitlines()[0]
    assert GREEN not in title
    assert status in title


def test_what_is_not_known_here_is_drawn_all_the_same() -> None:
    step = {"name": "melt", "status": 99, "effect": "EFFECT_ODD"}
    text = drawn(steps=[step], mood="calm", status=17)
    assert "17 (unknown)" in text
    assert "? melt" in text
    assert "odd" in text
    assert "mood: calm" in text


def test_what_is_sent_does_not_steer_the_terminal() -> None:
    cause = {"code": "UNKNOWN", "message": "\x1b[2J\x1b]0;owned\x07 \u202egnorw"}
    text = drawn(failure=cause, remaining_effects=["\x1b[31ma"])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert clean("a\nb\tc") == "a b c"


def output(form: str = "table", fields: tuple[str, ...] = (), terminal: Terminal | None = None) -> Output:
    return Output(form, fields, terminal or Terminal())


def written(to: Output, rows: list[dict[str, Any]]) -> str:
    kept = io.StringIO()
    with contextlib.redirect_stdout(kept):
        to.many(
            iter(rows),
            [Column("NAME", "name"), Column("CODE", "failure.code"), Column("MORE", "more", is_wide=True)],
        )
    return kept.getvalue()


ROWS: list[dict[str, Any]] = [
    {"name": "a", "failure": {"code": "X"}, "more": [1]},
    {"name": "bé", "failure": None, "more": [1, 2]},
]


def test_the_formats_of_a_list() -> None:
    assert written(output(), ROWS) == "NAME  CODE\na     X\nbé\n"
    assert written(output("wide"), ROWS).splitlines()[0] == "NAME  CODE  MORE"
    assert json.loads(written(output("json"), ROWS)) == ROWS
    assert json.loads(written(output("json"), [])) == []
    assert [json.loads(line) for line in written(output("jsonl"), ROWS).splitlines()] == ROWS
    assert list(yaml.safe_load_all(written(output("yaml"), ROWS))) == ROWS


def test_fields_are_picked_in_every_format() -> None:
    fields = ("failure.code", "name")
    assert written(output(fields=fields), ROWS).splitlines()[0] == "FAILURE.CODE  NAME"
    assert json.loads(written(output("json", fields), ROWS))[1] == {"failure.code": None, "name": "bé"}
    assert picked({"steps": [{"name": "a"}, {"name": "b"}]}, "steps.name") == ["a", "b"]


@given(st.integers(min_value=20, max_value=60), st.text(min_size=1, max_size=90))
def test_a_table_fits_its_terminal(columns: int, text: str) -> None:
    terminal = Terminal(columns, is_terminal=True)
    row = {"name": text, "failure": {"code": text}, "more": []}
    lines = written(output(terminal=terminal), [row]).splitlines()
    assert all(width(line) <= columns for line in lines), lines


def test_the_screen_of_top_fits_its_terminal_and_tells_when_the_server_is_away() -> None:
    participants = [
        {"participant": {"name": "p" * 50}, "breaker": 9, "in_flight": 1, "queued": 0, "failure_ratio": 1.0}
    ]
    look = Look(
        NOW, "here:1", {"RUNNING": [sagactl_screens.SAGA] * 1000}, [], participants, "the server is away"
    )
    screens = {columns: Screen(look, None, Terminal(columns), rows=10).lines() for columns in (40, 80, 200)}
    for columns, lines in screens.items():
        assert len(lines) <= 10
        assert max(map(width, lines)) <= columns
    assert "the server is away" in screens[80][0]
    assert "1000+ running" in screens[80][1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.25, "250 ms"),
        (4.2, "4.2 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (90000, "1 d 1 h"),
        (-5, "-5 s"),
    ],
)
def test_spans_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_spans_as_they_are_written() -> None:
    assert [seconds_of(each) for each in ("250ms", "10s", "5m", "2h", "1d", "7", "1.5s")] == [
        0.25,
        10,
        300,
        7200,
        86400,
        7,
        1.5,
    ]
    assert duration_text("5m") == "300s"
    assert duration_text("250ms") == "0.25s"
    for nonsense in ("", "soon", "-1s", "1 s 2"):
        with pytest.raises(ValueError, match="no span"):
            seconds_of(nonsense)


def test_values_in_words() -> None:
    assert short("SAGA_STATUS_RUNNING") == "RUNNING"
    assert short("SAGA_STATUS_UNSPECIFIED") == ""
    assert short(42) == "42 (unknown)"
    assert worded({"a": "b", "c": 1}) == "a=b,c=1"
    assert worded([{"a": 1}]) == '[{"a": 1}]'
    assert (worded(None), worded(True), worded(["x", "y"])) == ("", "yes", "x,y")


def test_the_instants_of_a_log_are_those_of_the_server() -> None:
    assert sagactl_screens.watch().splitlines()[0].startswith("09:30:00.000")
    assert datetime.now(UTC) > NOW
