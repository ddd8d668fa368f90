"""A basket of several sellers: the parts are sagas of their own, and all or nothing holds over them."""

from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Participants, Refused, Run, Unavailable, rehearse

CHECKOUT = Path(__file__).with_name("definition.yaml")
SELLER_ORDER = Path(__file__).with_name("seller_order.yaml")
BASKET = {
    "basket_id": "B-1",
    "card": "4242",
    "amount_cents": 9_000,
    "sellers": [
        {"seller_id": "potter", "lines": [{"sku": "teapot"}], "share_cents": 5_000},
        {"seller_id": "grower", "lines": [{"sku": "tea"}], "share_cents": 3_000},
        {"seller_id": "printer", "lines": [{"sku": "card"}], "share_cents": 500},
    ],
}


class Marketplace(Participants):
    """Payments, the sellers' stock, and their orders, which are run by their own definition."""

    def __init__(self, sold_out: str = "") -> None:
        super().__init__(otherwise=lambda call: None)
        self.sold_out = sold_out
        self.reserved: set[str] = set()
        self.parts: dict[str, Run] = {}
        self.action("sellers.Reserve")(self._reserve)
        self.compensation("sellers.Release")(lambda call: self.reserved.discard(call.input["order"]))
        self.action("shipping.Book")(lambda call: {"tracking": f"track {call.input['order']}"})
        self.saga("seller-order")(self._run_part)
        self.compensation("@saga.seller-order")(self._undo_part)

    def _reserve(self, call: Call) -> None:
        if call.input["order"].endswith(f"/{self.sold_out}"):
            raise Refused("sold out")
        self.reserved.add(call.input["order"])

    def _run_part(self, call: Call) -> Any:
        run = rehearse(SELLER_ORDER, call.input, self)
        self.parts[call.step] = run
        if run.failure is not None:
            raise Refused(run.failure.message)
        return run.output

    def _undo_part(self, call: Call) -> None:
        self.reserved.discard(self.parts[call.step].called("reserve")[0].input["order"])


def checkout(marketplace: Marketplace, **faults: Any) -> Run:
    return rehearse(CHECKOUT, BASKET, marketplace, faults=faults)


def test_every_seller_ships_and_is_paid_a_share() -> None:
    marketplace = Marketplace()
    run = checkout(marketplace)
    assert run.status == "COMPLETED"
    assert run.output["parcels"][0] == {"seller_id": "potter", "tracking": "track B-1/potter"}
    assert marketplace.reserved == {"B-1/potter", "B-1/grower", "B-1/printer"}
    shares = [call.input["cents"] for call in run.calls if call.method == "PayOut"]
    assert shares == [5_000, 3_000, 500]


def test_parts_run_at_once() -> None:
    run = checkout(Marketplace())
    assert len({call.at for call in run.calls if call.method == "seller-order"}) == 1


@pytest.mark.parametrize("seller", ["potter", "grower", "printer"])
def test_seller_without_stock_has_the_parts_of_the_others_undone(seller: str) -> None:
    marketplace = Marketplace(sold_out=seller)
    run = checkout(marketplace)
    assert run.status == "COMPENSATED"
    assert not marketplace.reserved
    assert run.names[-1] == "undo authorize"
    assert not run.called("capture")
    ends = sorted(part.status for part in marketplace.parts.values())
    assert ends == ["COMPENSATED", "COMPLETED", "COMPLETED"]


def test_card_that_cannot_be_captured_undoes_completed_parts() -> None:
    marketplace = Marketplace()
    run = checkout(marketplace, capture=Refused("expired"))
    assert run.status == "COMPENSATED"
    assert not marketplace.reserved
    assert {f"undo orders[{number}].order" for number in range(3)} <= set(run.names)


def test_seller_is_paid_however_often_the_bank_has_to_be_asked() -> None:
    run = checkout(Marketplace(), **{"pay_sellers[1].payout": [Unavailable()] * 50})
    assert run.status == "COMPLETED"
    assert len(run.called("pay_sellers[1].payout")) == 51


def test_part_undoes_itself_when_its_courier_refuses() -> None:
    marketplace = Marketplace()
    part = {"order_id": "B-1/potter", "seller_id": "potter", "lines": [{"sku": "teapot"}]}
    run = rehearse(SELLER_ORDER, part, marketplace, faults={"courier": Refused("strike")})
    assert run.status == "COMPENSATED"
    assert not marketplace.reserved
