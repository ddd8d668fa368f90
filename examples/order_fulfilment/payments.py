"""Payments: charges a card and refunds it.

    python -m order_fulfilment.payments --address 127.0.0.1:7302 --database-url postgresql://...

There is no bank behind it. As with a payment gateway's test cards, the number decides what happens:

    4242 4242 4242 4242   the charge succeeds
    4000 0000 0000 0002   declined: insufficient funds
    4000 0000 0000 0408   the charge succeeds, but every answer to it comes three seconds late
    4000 0000 0001 dddd   the charge succeeds after dddd milliseconds
"""

import time
import uuid
from typing import Final

import grpc
from psycopg import Connection
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

from order_fulfilment.guard import Answer, Output, Refused
from order_fulfilment.inputs import Input
from order_fulfilment.service import Database, Participant, run

DECLINED_CARD: Final = "4000000000000002"
LATE_CARD: Final = "4000000000000408"
LATE_SECONDS: Final = 3.0
SLOW_CARD_PREFIX: Final = "400000000001"

TABLES: Final = """
create table if not exists charges (
    charge_id       uuid primary key,
    idempotency_key text not null,
    order_id        text not null,
    card_ending     text not null,
    amount_cents    integer not null constraint charges_amount_is_positive check (amount_cents > 0)
);
create table if not exists refunds (
    refund_id       uuid primary key,
    idempotency_key text not null,
    charge_id       uuid not null references charges,
    amount_cents    integer not null
);
create index if not exists charges_by_key on charges (idempotency_key);
"""

# A compensation finds its effect by the key of the action, not by the action's output: when the outcome
# of the action is unknown, nobody has its output.
REFUND: Final = """
insert into refunds (refund_id, idempotency_key, charge_id, amount_cents)
select %s, %s, charge_id, amount_cents from charges where idempotency_key = %s
returning charge_id, amount_cents
"""


def card_number(order: Input) -> str:
    card = order.text("card").replace(" ", "")
    if len(card) != 16 or not (card.isascii() and card.isdigit()):
        raise Refused("card must have sixteen digits", grpc.StatusCode.INVALID_ARGUMENT)
    return card


def charge(connection: Connection, request: ExecuteRequest) -> Output:
    order = Input.of(request.input)
    order_id, card, amount_cents = order.text("order_id"), card_number(order), order.count("amount_cents")
    if card == DECLINED_CARD:
        raise Refused("card declined: insufficient funds")
    if card.startswith(SLOW_CARD_PREFIX):
        time.sleep(int(card[-4:]) / 1000)  # the bank takes its time
    charge_id = uuid.uuid4()
    connection.execute(
        "insert into charges (charge_id, idempotency_key, order_id, card_ending, amount_cents)"
        " values (%s, %s, %s, %s, %s)",
        (charge_id, request.idempotency_key, order_id, card[-4:], amount_cents),
    )
    return {"charge_id": str(charge_id)}


def refund(connection: Connection, request: CompensateRequest) -> Output:
    keys = (uuid.uuid4(), request.idempotency_key, request.action_idempotency_key)
    refunded = connection.execute(REFUND, keys).fetchall()
    return {"refunded_cents": sum(amount_cents for _, amount_cents in refunded)}


class Payments(Participant):
    """When the late card is charged, the charge is kept and its answer held back."""

    def execute(self, request: ExecuteRequest) -> Answer:
        answer = super().execute(request)
        if answer.code is grpc.StatusCode.OK and card_number(Input.of(request.input)) == LATE_CARD:
            time.sleep(LATE_SECONDS)
        return answer


def payments(database: Database) -> Participant:
    return Payments(database, actions={"Charge": charge}, compensations={"Refund": refund})


if __name__ == "__main__":
    run("payments", TABLES, payments)
