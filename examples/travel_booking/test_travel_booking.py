"""A trip: everything is booked, or nothing is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Faults, Participants, Refused, Run, Unavailable, rehearse

DEFINITION = Path(__file__).with_name("definition.yaml")
TRIP = {
    "trip_id": "T-1",
    "traveller": "ada",
    "flight": {"number": "KL 1001", "date": "2026-05-01"},
    "hotel": {"name": "Canal View", "nights": 3},
    "car": {"class": "small"},
    "price_cents": 98_000,
}


class Agencies(Participants):
    """Books of everybody who sells a part of the trip, by the trip's number."""

    def __init__(self) -> None:
        super().__init__()
        self.booked: set[tuple[str, str]] = set()
        self.charged_cents = 0
        for name in ("airline", "hotels", "cars"):
            self.action(f"{name}.Book")(self._book)
            self.compensation(f"{name}.Cancel")(self._cancel)
        self.action("payments.Charge")(self._charge)
        self.compensation("payments.Refund")(self._refund)
        self.action("airline.Ticket")(lambda call: {"number": "074-1"})

    def _book(self, call: Call) -> dict[str, str]:
        self.booked.add((call.participant, call.input["trip"]))
        return {"booking": f"{call.participant}-1"}

    def _cancel(self, call: Call) -> None:
        self.booked.discard((call.participant, call.input["trip"]))

    def _charge(self, call: Call) -> None:
        self.charged_cents += call.input["cents"]

    def _refund(self, call: Call) -> None:
        self.charged_cents = 0


@pytest.fixture
def agencies() -> Agencies:
    return Agencies()


def book(agencies: Agencies, trip: Mapping[str, Any] = TRIP, faults: Faults | None = None) -> Run:
    return rehearse(DEFINITION, trip, agencies, faults=faults)


def test_all_three_are_booked_at_once_and_paid_for_together(agencies: Agencies) -> None:
    run = book(agencies)
    assert run.status == "COMPLETED"
    assert run.output == {"ticket": "074-1", "hotel": "hotels-1", "car": "cars-1"}
    assert {call.at for call in run.calls[:3]} == {0.0}
    assert len(agencies.booked) == 3
    assert agencies.charged_cents == 98_000


@pytest.mark.parametrize("part", ["flight", "hotel", "car", "pay", "ticket"])
def test_whatever_is_refused_nothing_stays_booked_and_nothing_paid(agencies: Agencies, part: str) -> None:
    run = book(agencies, faults={part: Refused("sold out")})
    assert run.status == "COMPENSATED"
    assert run.failure is not None
    assert run.failure.step == part
    assert not agencies.booked
    assert agencies.charged_cents == 0


@pytest.mark.parametrize("part", ["flight", "hotel", "car", "pay"])
def test_booking_whose_answer_was_lost_is_cancelled_too(agencies: Agencies, part: str) -> None:
    run = book(agencies, faults={part: Unavailable(happened=True)})
    assert run.status == "COMPENSATED"
    assert f"undo {part}" in run.names
    assert not agencies.booked
    assert agencies.charged_cents == 0


def test_trip_without_a_car_books_none(agencies: Agencies) -> None:
    run = book(agencies, {name: value for name, value in TRIP.items() if name != "car"})
    assert run.status == "COMPLETED"
    assert run.output["car"] is None
    assert not run.called("car")


def test_bookings_are_cancelled_at_once_and_after_the_refund(agencies: Agencies) -> None:
    run = book(agencies, faults={"ticket": Refused("fare expired")})
    [refunded] = run.called("undo pay")
    cancelled = [run.called(f"undo {part}")[0].at for part in ("flight", "hotel", "car")]
    assert len(set(cancelled)) == 1
    assert cancelled[0] > refunded.at
    assert refunded.input["why"] == "FAILED_PRECONDITION"


def test_airline_that_is_away_for_hours_is_asked_until_it_cancels(agencies: Agencies) -> None:
    run = book(agencies, faults={"hotel": Refused("sold out"), "undo flight": [Unavailable()] * 20})
    assert run.status == "COMPENSATED"
    assert run.seconds > 2 * 3600
    assert not agencies.booked


def test_who_cannot_cancel_at_all_is_told_to_a_person(agencies: Agencies) -> None:
    run = book(agencies, faults={"hotel": Refused("sold out"), "undo flight": Refused("not cancellable")})
    assert run.status == "NEEDS_ATTENTION"
    assert run.remaining == ("flight",)
