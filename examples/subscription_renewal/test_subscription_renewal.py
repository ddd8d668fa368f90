"""A renewal: paid at the first, second, third or fourth try, or suspended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Participants, Refused, Run, Unavailable, rehearse

DEFINITION = Path(__file__).with_name("definition.yaml")
SUBSCRIPTION = {"subscription_id": "s-1", "renews_at": "2026-01-15T00:00:00Z", "price_cents": 999, "days": 30}
DAY = 86_400.0
Renew = Callable[..., Run]


@pytest.fixture
def renew() -> Renew:
    """Renews with a card that is declined so many times."""

    def start(declined: int = 0, **faults: Any) -> Run:
        services = Participants(otherwise=lambda call: None)

        @services.action("payments.Charge")
        def charge(call: Call) -> dict[str, str]:
            if call.input["try"] <= declined:
                raise Refused("card declined")
            return {"charge_id": call.key}

        return rehearse(DEFINITION, SUBSCRIPTION, services, faults=faults)

    return start


def test_nothing_happens_before_the_day(renew: Renew) -> None:
    run = renew()
    assert run.calls[0].at == pytest.approx(14 * DAY)


@pytest.mark.parametrize("declined", [0, 1, 2, 3])
def test_declined_card_is_tried_again_every_three_days(renew: Renew, declined: int) -> None:
    run = renew(declined)
    assert run.status == "COMPLETED"
    assert run.output == {"paid": True, "tries": declined + 1}
    days = [round(call.at / DAY) for call in run.calls if call.method == "Charge"]
    assert days == [14 + 3 * number for number in range(declined + 1)]
    assert len([call for call in run.calls if call.method == "CardDeclined"]) == declined
    assert run.calls[-1].method == "Extend"


def test_card_that_is_declined_four_times_suspends(renew: Renew) -> None:
    run = renew(declined=4)
    assert run.status == "COMPLETED"
    assert run.output == {"paid": False, "tries": 4}
    assert run.calls[-1].method == "Suspend"


def test_every_try_is_a_charge_of_its_own_and_a_lost_answer_is_not(renew: Renew) -> None:
    """Payments sees one key for each try, and the same one when it is asked again."""
    run = renew(declined=1, **{"collect[1].charge": [Unavailable(happened=True), None]})
    charges = [call for call in run.calls if call.method == "Charge"]
    assert [call.input["try"] for call in charges] == [1, 2, 2]
    assert run.output == {"paid": True, "tries": 2}
    assert len({call.key for call in charges}) == 2


def test_payments_that_is_away_for_days_is_waited_for(renew: Renew) -> None:
    run = renew(charge=[Unavailable()] * 200)
    assert run.output == {"paid": True, "tries": 1}
    assert run.seconds > 16 * DAY


def test_mail_that_cannot_be_sent_stops_nothing(renew: Renew) -> None:
    assert renew(declined=1, remind=Refused("no such mailbox")).output == {"paid": True, "tries": 2}


def test_extension_that_is_refused_pays_back_the_try_that_succeeded(renew: Renew) -> None:
    run = renew(declined=2, extend=Refused("account closed"))
    assert run.status == "COMPENSATED"
    [refund] = [call for call in run.calls if call.method == "Refund"]
    assert refund.input == {"subscription": "s-1", "try": 3}
