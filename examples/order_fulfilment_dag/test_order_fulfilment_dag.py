"""An order as a graph: what runs at once, what is undone, and what may fail without harm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Faults, Participants, Refused, Run, Unavailable, rehearse

DEFINITION = Path(__file__).with_name("definition.yaml")
ORDER = {
    "order_id": "A-17",
    "customer_id": "c-9",
    "card": "4242",
    "amount_cents": 4460,
    "address": "12 Canal Street, Utrecht",
    "lines": [{"sku": "teapot", "quantity": 1}],
}
MEMBERS_ORDER = {**ORDER, "loyalty_id": "m-3"}
OUTPUTS = {
    "reserve": {"reservation_id": "r-1"},
    "authorize": {"authorization_id": "auth-1"},
    "ship": {"tracking": "NL-1"},
}


def order(details: Mapping[str, Any] = ORDER, faults: Faults | None = None) -> Run:
    services = Participants(otherwise=lambda call: OUTPUTS.get(call.step))
    return rehearse(DEFINITION, details, services, faults=faults)


def only(calls: list[Call]) -> Call:
    [call] = calls
    return call


def test_goods_are_reserved_while_the_customer_is_screened() -> None:
    run = order()
    assert run.status == "COMPLETED"
    assert run.output == {"tracking": "NL-1", "mailed": True}
    screened, reserved, authorized = (only(run.called(name)) for name in ("screen", "reserve", "authorize"))
    assert screened.at == reserved.at == 0.0
    assert authorized.at > screened.at


def test_parcel_is_booked_once_both_branches_are_done() -> None:
    run = order(faults={"authorize": [Unavailable(), None]})
    assert only(run.called("ship")).at > run.called("authorize")[-1].at
    assert only(run.called("ship")).input["goods"] == "r-1"


def test_fraud_costs_the_reservation_and_touches_no_card() -> None:
    run = order(faults={"screen": Refused("blacklisted")})
    assert run.status == "COMPENSATED"
    assert run.names == ["screen", "reserve", "undo reserve"]


def test_courier_that_refuses_undoes_both_branches_at_once() -> None:
    run = order(faults={"ship": Refused("no such street")})
    assert run.status == "COMPENSATED"
    assert only(run.called("undo reserve")).at == only(run.called("undo authorize")).at


def test_lost_answer_is_undone_by_the_order_and_not_by_what_never_came() -> None:
    run = order(faults={"authorize": Unavailable(happened=True)})
    assert run.status == "COMPENSATED"
    assert only(run.called("undo authorize")).input == {"order_id": "A-17"}


def test_money_is_captured_however_often_the_bank_has_to_be_asked() -> None:
    run = order(faults={"capture": [Unavailable()] * 40})
    assert run.status == "COMPLETED"
    assert len(run.called("capture")) == 41
    assert len({call.key for call in run.called("capture")}) == 1


@pytest.mark.parametrize(("details", "points"), [(ORDER, []), (MEMBERS_ORDER, [44])])
def test_points_are_awarded_to_members_only(details: Mapping[str, Any], points: list[int]) -> None:
    assert [call.input["points"] for call in order(details).called("award")] == points


def test_mail_that_cannot_be_sent_stops_nothing() -> None:
    run = order(MEMBERS_ORDER, {"mail": Refused("no such mailbox"), "award": Refused("closed")})
    assert run.status == "COMPLETED"
    assert run.output == {"tracking": "NL-1", "mailed": False}
