"""Inventory: keeps stock, reserves it for an order and releases it again. On its own:

python -m order_fulfilment.inventory --address 127.0.0.1:7301 --database-url postgresql://...
"""

import uuid
from typing import Final

from psycopg import Connection
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

from order_fulfilment.guard import Output, Refused
from order_fulfilment.inputs import Input
from order_fulfilment.service import Database, Participant, run

TABLES: Final = """
create table if not exists stock (
    sku       text primary key,
    initial   integer not null,
    available integer not null constraint stock_is_not_oversold check (available >= 0)
);
insert into stock (sku, initial, available)
values ('teapot', 1000, 1000), ('cup', 5000, 5000), ('green-tea', 2000, 2000)
on conflict do nothing;
create table if not exists reservations (
    reservation_id  uuid primary key,
    idempotency_key text not null,
    order_id        text not null,
    released_by     text                        -- the key of the compensation that took it back
);
create table if not exists reserved_lines (
    reservation_id uuid not null references reservations,
    sku            text not null references stock,
    quantity       integer not null
);
create index if not exists reservations_by_key on reservations (idempotency_key);
create index if not exists reserved_lines_by_reservation on reserved_lines (reservation_id);
"""

TAKE: Final = "update stock set available = available - %s where sku = %s and available >= %s"

# A compensation finds its effect by the key of the action, not by the action's output: when the outcome
# of the action is unknown, nobody has its output.
RELEASE: Final = """
update reservations set released_by = %s where idempotency_key = %s and released_by is null
returning reservation_id
"""

PUT_BACK: Final = """
update stock set available = available + taken.quantity
from (
    select sku, sum(quantity)::integer as quantity from reserved_lines where reservation_id = %s group by sku
) as taken
where stock.sku = taken.sku
"""


def reserve(connection: Connection, request: ExecuteRequest) -> Output:
    order = Input.of(request.input)
    reservation_id = uuid.uuid4()
    connection.execute(
        "insert into reservations (reservation_id, idempotency_key, order_id) values (%s, %s, %s)",
        (reservation_id, request.idempotency_key, order.text("order_id")),
    )
    for line in order.lines():
        if connection.execute(TAKE, (line.quantity, line.sku, line.quantity)).rowcount == 0:
            raise Refused(f"out of stock: {line.sku}")
        connection.execute(
            "insert into reserved_lines (reservation_id, sku, quantity) values (%s, %s, %s)",
            (reservation_id, line.sku, line.quantity),
        )
    return {"reservation_id": str(reservation_id)}


def release(connection: Connection, request: CompensateRequest) -> Output:
    keys = (request.idempotency_key, request.action_idempotency_key)
    released = [reservation_id for (reservation_id,) in connection.execute(RELEASE, keys)]
    for reservation_id in released:
        connection.execute(PUT_BACK, (reservation_id,))
    return {"released": [str(reservation_id) for reservation_id in released]}


def inventory(database: Database) -> Participant:
    return Participant(database, actions={"Reserve": reserve}, compensations={"Release": release})


if __name__ == "__main__":
    run("inventory", TABLES, inventory)
