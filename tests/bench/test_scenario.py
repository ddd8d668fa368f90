"""Whether an order was lost is found in the books, not in the answers alone."""

from typing import Any

from bench.scenario import TEN_MINUTES, Orders, report

BOOKS = {"charge": 2.0, "inventory": 2.0, "receipt": 2.0, "shipping": 2.0, "declined": 1.0}
ENDS = {"COMPLETED": 2, "COMPENSATED": 1}


def told(
    *, books: dict[str, float] = BOOKS, statuses: dict[str, int] = ENDS, failed: int = 0
) -> dict[str, Any]:
    orders = Orders({"usual": [0.1, 0.2], "spike": [0.4]}, dict(ENDS), failed)
    return report(orders, [1, 5, 3], books, statuses, 10)


def test_books_that_agree() -> None:
    found = told()
    assert found["is_nothing_lost"]
    assert (found["orders"], found["unfinished_median"], found["unfinished_max"]) == (3, 3, 5)
    assert {each["kind"]: each["p50_ms"] for each in found["latencies"]} == {
        "usual": 100.0,
        "spike": 400.0,
        "all": 200.0,
    }


def test_an_effect_too_many_or_too_few_is_a_loss() -> None:
    assert not told(books={**BOOKS, "charge": 3.0})["is_nothing_lost"]
    assert not told(books={**BOOKS, "receipt": 1.0})["is_nothing_lost"]


def test_an_order_without_an_answer_or_an_end_is_a_loss() -> None:
    assert not told(failed=1)["is_nothing_lost"]
    assert not told(statuses={"COMPLETED": 2, "RUNNING": 1})["is_nothing_lost"]
    assert not told(statuses={"COMPLETED": 2})["is_nothing_lost"]


def test_ten_minutes_have_spikes_and_slow_gateways_apart_and_together() -> None:
    assert {minute.kind for minute in TEN_MINUTES} == {
        "usual",
        "spike",
        "usual, gateway slow",
        "spike, gateway slow",
    }
