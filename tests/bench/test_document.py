"""What is written into the page of figures, and what is drawn."""

import re
from typing import Any

import pytest

from bench.costs import shares_of
from bench.document import NOT_YET, PAGE, WRITERS, fill, latency_cell, systems, throughput_cell
from bench.faults import throughput_around
from bench.plot import curves
from bench.record import Record, Sample, Shape, _plain, not_measured, read, summarise


def found() -> dict[str, Any]:
    relay = Sample(200, 2.0, 5.0, 9.0, cpu_us={"coordinator": 400.0, "load": 40.0})
    ours = Sample(
        120, 2.0, 7.0, 12.0, cpu_us={"coordinator": 900.0, "postgres": 200.0, "load": 40.0}, commits=3.0
    )
    records = []
    for concurrency in (64, 1):
        shape = Shape("success", 2, concurrency)
        records += [
            summarise("relay", shape, [relay], [relay]),
            summarise("ours, unary", shape, [ours], [relay]),
            not_measured("peer", shape, "needs node"),
        ]
    settings = {"cores": 2}
    return {"systems": {"taken_at": "now", "settings": settings, "measured": _plain(records)}}


def test_only_what_is_between_markers_is_replaced() -> None:
    page = "before\n<!-- bench systems -->\nold\n<!-- end -->\nbetween\n<!-- bench floors -->\n<!-- end -->\nafter\n"
    filled = fill(page, found())
    assert filled.startswith("before\n<!-- bench systems -->\n\n**2 steps, success**")
    assert "old" not in filled
    assert f"<!-- bench floors -->\n\n{NOT_YET}\n\n<!-- end -->\nafter\n" in filled
    assert fill(filled, found()) == filled


def test_a_marker_that_nothing_fills_is_an_error() -> None:
    with pytest.raises(KeyError, match="unheard"):
        fill("<!-- bench unheard -->\n<!-- end -->", found())


def test_the_page_has_a_place_for_every_table() -> None:
    markers = re.findall(r"<!-- bench ([a-z-]+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(markers) == sorted(WRITERS)


def test_the_committed_results_fill_every_table_that_they_have() -> None:
    results = read()
    filled = fill(PAGE.read_text(encoding="utf-8"), results)
    missing = sum(section not in results if section else not results for section, _ in WRITERS.values())
    assert filled.count(NOT_YET) == missing


def test_systems_are_rows_and_concurrencies_columns() -> None:
    lines = systems(found()).splitlines()
    assert "| sagas a second: median (lowest-highest) | 1 in flight | 64 in flight |" in lines
    assert any(line.startswith("| ours, unary | **60**/s (60-60), 0.60 of the relay |") for line in lines)
    assert any("| peer | not measured: needs node |" in line for line in lines)
    assert (throughput_cell(_peer()), latency_cell(_peer())) == ("not measured: needs node", "")


def _peer() -> dict[str, Any]:
    plain: dict[str, Any] = _plain(Record("peer", "success", 2, 1, 0, reason="needs node"))
    return plain


def test_budgets_and_the_model_are_computed_from_the_records() -> None:
    filled = fill("<!-- bench targets -->\n<!-- end -->\n<!-- bench sizing -->\n<!-- end -->", found())
    assert "| unary, 64 in flight, share of the bare relay | at least 0.6 | 0.6 | yes |" in filled
    assert "| unary, 64 in flight, sagas/s | at least 1500 | 60 | **no** |" in filled
    assert "| killed to resumed, s | at most 5 | not measured |  |" in filled
    # 2 cores of a million microseconds over 900 + 200 + 40.
    assert "| ours, unary | success | 1111 | 5000 | 1754 | 60 | 3% |" in filled


def test_curves_are_in_order_and_leave_out_what_was_not_measured() -> None:
    assert curves(found(), 2, "success", "sagas_per_second") == {
        "relay": [(1, 100.0), (64, 100.0)],
        "ours, unary": [(1, 60.0), (64, 60.0)],
    }


def test_a_dip_is_measured_from_the_fault_until_the_rate_is_back() -> None:
    ended = [number / 100 for number in range(-300, 0)]  # 100 a second until the fault
    ended += [0.1, 0.3]  # half a second of almost nothing
    ended += [0.5 + number / 100 for number in range(300)]
    around = throughput_around(ended)
    assert around["sagas_per_second_before"] == 100.0
    assert around["sagas_per_second_lowest"] == 4.0
    assert around["sagas_per_second_within_lease"] == 84.0  # 2 and 250 in 3 s
    assert around["back_after_seconds"] == 0.5


def test_a_rate_that_never_comes_back_has_no_time() -> None:
    ended = [number / 100 for number in range(-300, 0)] + [0.1, 0.9]
    assert throughput_around(ended)["back_after_seconds"] is None


def test_time_is_the_innermost_known_frames() -> None:
    lines = [
        "run (saga_coordinator/app.py:80);start (saga_coordinator/engine/start.py);decide (saga_coordinator/saga/decide.py:3) 6",
        "run (saga_coordinator/app.py:80);append (saga_coordinator/store/journal.py:9);execute (psycopg/cursor.py:1) 3",
        "run (asyncio/runners.py:1) 1",
        "run (asyncio/runners.py:1);epoll_wait (libc.so.6) 500",
        "run (asyncio/runners.py:1);0x7f44dd0a3f16 (libc.so.6) 500",
    ]
    assert shares_of(lines) == {
        "core: decide, fold, expressions": 0.6,
        "psycopg and SQLAlchemy": 0.3,
        "event loop and interpreter": 0.1,
    }
