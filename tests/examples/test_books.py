"""The books: right when the services did what the sagas say, and each way of cooking them is found out.

The orders here are carried out by hand, so that nothing but the services decides what is in their tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from order_fulfilment.books import find_faults, read_books
from order_fulfilment.orders import Order, many_orders, one_order
from psycopg import Connection
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

from tests.examples.conftest import Connect

COMPLETED, UNDONE = one_order("completed"), one_order("undone")


@dataclass(frozen=True, slots=True)
class Shop:
    """Two orders, one carried out and one undone after its charge, and what their sagas say."""

    connection: Connection
    orders: dict[str, Order]
    statuses: dict[str, str]

    def faults(self) -> list[str]:
        return find_faults(read_books(self.connection), self.orders, self.statuses)


def carry_out(connect: Connect) -> None:
    for order, steps in ((COMPLETED, 3), (UNDONE, 2)):
        fields = {**order.input, "reservation_id": "some reservation"}
        names = [("inventory", "Reserve"), ("payments", "Charge"), ("shipping", "Schedule")][:steps]
        for participant, method in names:
            connect(participant).Execute(
                ExecuteRequest(
                    idempotency_key=f"{order.order_id} {method}",
                    method=method,
                    input=ParseDict(fields, Value()),
                )
            )
    for participant, method, undone in (
        ("payments", "Refund", "Charge"),
        ("inventory", "Release", "Reserve"),
    ):
        connect(participant).Compensate(
            CompensateRequest(
                idempotency_key=f"undone {method}",
                method=method,
                action_idempotency_key=f"undone {undone}",
            )
        )


@pytest.fixture
def shop(connect: Connect, empty_database_dsn: str) -> Iterator[Shop]:
    participants = {name: connect(name) for name in ("inventory", "payments", "shipping")}
    carry_out(lambda name: participants[name])
    orders = {order.order_id: order for order in (COMPLETED, UNDONE)}
    statuses = {"completed": "COMPLETED", "undone": "COMPENSATED"}
    with psycopg.connect(empty_database_dsn, autocommit=True) as connection:
        yield Shop(connection, orders, statuses)


def test_honest_books_have_no_faults(shop: Shop) -> None:
    assert shop.faults() == []


@pytest.mark.parametrize(
    ("tampering", "faults"),
    [
        (
            "update inventory.stock set available = available - 1 where sku = 'cup'",
            ["cup: 4999 in stock + 0 reserved + 0 shipped = 4999, but there were 5000"],
        ),
        (
            "update inventory.reservations set released_by = null",
            [
                "green-tea: 1998 in stock + 2 reserved + 2 shipped = 2002, but there were 2000",
                "teapot: 999 in stock + 1 reserved + 1 shipped = 1001, but there were 1000",
                "order undone: COMPENSATED, but 2 green-tea, 1 teapot reserved instead of nothing",
            ],
        ),
        (
            "delete from payments.refunds",
            [
                "charged less refunded is 8920 cents, but the completed orders are worth 4460",
                "order undone: COMPENSATED, but 4460 cents charged instead of 0",
            ],
        ),
        (
            (
                "insert into payments.refunds select gen_random_uuid(), idempotency_key, charge_id, amount_cents"
                " from payments.refunds"
            ),
            [
                "charged less refunded is 0 cents, but the completed orders are worth 4460",
                "payments: the key undone Refund was applied 2 times",
                "order undone: COMPENSATED, but -4460 cents charged instead of 0",
            ],
        ),
        (
            (
                "insert into payments.charges select gen_random_uuid(), idempotency_key, order_id, card_ending,"
                " amount_cents from payments.charges where order_id = 'completed'"
            ),
            [
                "charged less refunded is 8920 cents, but the completed orders are worth 4460",
                "payments: the key completed Charge was applied 2 times",
                "order completed: COMPLETED, but 8920 cents charged instead of 4460",
            ],
        ),
        (
            "update payments.charges set idempotency_key = 'made up' where order_id = 'completed'",
            ["payments: an effect bears the key made up, with which nobody ever asked"],
        ),
        (
            "update payments.charges set order_id = 'nobody' where order_id = 'completed'",
            [
                "order nobody: something was done for it, but nobody ordered this",
                "order completed: COMPLETED, but 0 cents charged instead of 4460",
            ],
        ),
        (
            (
                "insert into shipping.shipments select gen_random_uuid(), idempotency_key, order_id,"
                " reservation_id, address from shipping.shipments"
            ),
            [
                "shipping: the key completed Schedule was applied 2 times",
                "order completed: COMPLETED, but shipped 2 times",
            ],
        ),
        (
            "update shipping.shipped_lines set quantity = 3 where sku = 'teapot'",
            [
                "teapot: 999 in stock + 0 reserved + 3 shipped = 1002, but there were 1000",
                "order completed: COMPLETED, but 2 green-tea, 3 teapot shipped instead of 2 green-tea, 1 teapot",
            ],
        ),
        (
            "delete from shipping.shipped_lines; delete from shipping.shipments",
            [
                "order completed: COMPLETED, but shipped 0 times",
                "order completed: COMPLETED, but nothing shipped instead of 2 green-tea, 1 teapot",
            ],
        ),
    ],
)
def test_cooked_books_are_found_out(shop: Shop, tampering: str, faults: list[str]) -> None:
    shop.connection.execute(tampering.encode())
    assert shop.faults() == faults


@pytest.mark.parametrize("status", ["RUNNING", "COMPENSATING", "NEEDS_ATTENTION", "ABANDONED"])
def test_a_saga_that_has_not_ended_is_a_fault(shop: Shop, status: str) -> None:
    shop.statuses["undone"] = status
    assert shop.faults() == [f"order undone: its saga has not ended, it is {status}"]


def test_a_lost_saga_is_a_fault(shop: Shop) -> None:
    del shop.statuses["undone"]
    assert shop.faults() == ["order undone: its saga has not ended, it is missing"]


def test_a_saga_that_nobody_asked_for_is_a_fault(shop: Shop) -> None:
    shop.statuses["ghost"] = "COMPENSATED"
    assert shop.faults() == ["order ghost: there is a saga, but nobody ordered this"]


@pytest.mark.parametrize(("order_id", "said"), [("undone", "COMPLETED"), ("completed", "COMPENSATED")])
def test_a_saga_that_lies_about_its_end_is_a_fault(shop: Shop, order_id: str, said: str) -> None:
    shop.statuses[order_id] = said
    assert any(fault.startswith(f"order {order_id}: {said}, but") for fault in shop.faults())


def test_the_crowd_is_the_same_for_the_same_seed() -> None:
    crowd = list(many_orders(200, seed=7))
    assert crowd == list(many_orders(200, seed=7))
    assert len({order.order_id for order in crowd}) == 200
    assert sum(order.card.endswith("0002") for order in crowd) == 4
