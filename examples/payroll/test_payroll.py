"""Wages for 500: by a second person's word, 25 at a time, and back again if the books cannot be posted."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Participants, Pending, Refused, Run, Unavailable, begin

DEFINITION = Path(__file__).with_name("definition.yaml")
PEOPLE = 500
EMPLOYEES = [
    {"id": f"e-{number}", "iban": f"NL{number:02}", "net_cents": 200_000 + number} for number in range(PEOPLE)
]
MONTH = {
    "company": "tea-and-co",
    "month": "2026-01",
    "total_cents": sum(each["net_cents"] for each in EMPLOYEES),  # type: ignore[misc]
    "employees": EMPLOYEES,
}
Pay = Callable[..., Run]


class Bank(Participants):
    """Transfers by their reference."""

    def __init__(self) -> None:
        super().__init__(otherwise=lambda call: None)
        self.paid: dict[str, int] = {}
        self.action("bank.Transfer")(self._transfer)
        self.compensation("bank.Recall")(self._recall)

    def _transfer(self, call: Call) -> dict[str, str]:
        self.paid[call.input["reference"]] = call.input["cents"]
        return {"transfer_id": call.key}

    def _recall(self, call: Call) -> None:
        self.paid.pop(call.input["reference"], None)


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def pay(bank: Bank) -> Pay:
    """Pays everybody, once released."""

    def start(**faults: Any) -> Run:
        run = begin(DEFINITION, MONTH, bank, faults=faults).run_until_waiting()
        return run.approve("release", by="deputy.of.finance").finish()

    return start


def at_once(calls: list[Call]) -> int:
    """How many of the calls began at the same instant; each takes as long as the others."""
    return max(Counter(call.at for call in calls).values())


def transfers(run: Run) -> list[Call]:
    return [call for call in run.calls if call.method == "Transfer"]


def test_everybody_is_paid_once_and_twenty_five_at_a_time(bank: Bank, pay: Pay) -> None:
    run = pay()
    assert run.status == "COMPLETED"
    assert run.output["everybody"] is True
    assert sum(bank.paid.values()) == MONTH["total_cents"]
    assert len({call.key for call in transfers(run)}) == PEOPLE
    assert at_once(transfers(run)) == 25


def test_nobody_is_paid_before_a_second_person_has_released_it(bank: Bank) -> None:
    run = begin(DEFINITION, MONTH, bank).run_until_waiting()
    assert run.waiting == ("release",)
    assert run.names == ["earmark"]
    run.reject("release", by="head.of.finance", comment="two people are listed twice").finish()
    assert run.status == "COMPENSATED"
    assert not bank.paid
    assert run.names == ["earmark", "undo earmark"]


def test_closed_account_keeps_nobody_else_from_their_wages(bank: Bank, pay: Pay) -> None:
    run = pay(**{"pay[137].transfer": Refused("account closed")})
    assert run.status == "COMPLETED"
    assert run.output["everybody"] is False
    unpaid = [wage for wage in run.output["wages"] if not wage["paid"]]
    assert unpaid == [
        {"id": "e-137", "paid": False, "why": {"code": "FAILED_PRECONDITION", "message": "account closed"}}
    ]
    assert len(bank.paid) == PEOPLE - 1


def test_wage_in_doubt_is_told_apart_from_one_that_was_refused(pay: Pay) -> None:
    run = pay(**{"pay[3].transfer": Unavailable("bank is down")})
    assert run.output["wages"][3]["why"]["code"] == "UNAVAILABLE"


def test_transfer_that_the_bank_confirms_the_next_morning_is_waited_for(pay: Pay) -> None:
    confirmed = Pending({"transfer_id": "x"}, after_seconds=50_000)
    run = pay(**{"pay[499].transfer": confirmed})
    assert run.status == "COMPLETED"
    assert run.seconds > 50_000
    assert run.output["everybody"] is True


def test_books_that_cannot_be_posted_recall_every_transfer(bank: Bank, pay: Pay) -> None:
    run = pay(**{"post": Refused("period closed"), "pay[7].transfer": Unavailable("bank is down")})
    assert run.status == "COMPENSATED"
    assert not bank.paid
    recalls = [call for call in run.calls if call.method == "Recall"]
    # That in doubt too, by the reference, as nobody knows its number.
    assert {call.input["reference"] for call in recalls} == {f"2026-01/{each['id']}" for each in EMPLOYEES}
    assert at_once(recalls) <= 25
    assert run.names[-1] == "undo earmark"
