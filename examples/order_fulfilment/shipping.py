"""Shipping: books a courier for an order. Once booked, the parcel is on its way: there is nothing to undo
it with.

On its own:

    python -m order_fulfilment.shipping --address 127.0.0.1:7303 --database-url postgresql://...
"""

import uuid
from typing import Final

from psycopg import Connection
from saga_client.v1.participant_service_pb2 import ExecuteRequest

from order_fulfilment.guard import Output
from order_fulfilment.inputs import Input
from order_fulfilment.service import Database, Participant, run

TABLES: Final = """
create table if not exists shipments (
    shipment_id     uuid primary key,
    idempotency_key text not null,
    order_id        text not null,
    reservation_id  text not null,
    address         text not null
);
create table if not exists shipped_lines (
    shipment_id uuid not null references shipments,
    sku         text not null,
    quantity    integer not null
);
"""


def schedule(connection: Connection, request: ExecuteRequest) -> Output:
    order = Input.of(request.input)
    shipment_id = uuid.uuid4()
    connection.execute(
        "insert into shipments (shipment_id, idempotency_key, order_id, reservation_id, address)"
        " values (%s, %s, %s, %s, %s)",
        (
            shipment_id,
            request.idempotency_key,
            order.text("order_id"),
            order.text("reservation_id"),
            order.text("address"),
        ),
    )
    for line in order.lines():
        connection.execute(
            "insert into shipped_lines (shipment_id, sku, quantity) values (%s, %s, %s)",
            (shipment_id, line.sku, line.quantity),
        )
    return {"shipment_id": str(shipment_id)}


def shipping(database: Database) -> Participant:
    return Participant(database, actions={"Schedule": schedule}, compensations={})


if __name__ == "__main__":
    run("shipping", TABLES, shipping)
