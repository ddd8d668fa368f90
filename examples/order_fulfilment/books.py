"""The books: what the three services say they did, held against what the sagas say became of the orders.

`read_books` reads the services' own tables, which nothing but they have written. `find_faults` returns a line for
everything that does not add up; no line means that the books are consistent.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg import Connection

from order_fulfilment.orders import Order

Lines = Counter[str]
"""Pieces by SKU."""


@dataclass(frozen=True, slots=True)
class Stock:
    initial: int
    available: int


@dataclass(frozen=True, slots=True)
class Reservation:
    order_id: str
    released: bool
    lines: Lines


@dataclass(frozen=True, slots=True)
class Charge:
    order_id: str
    amount_cents: int
    refunded_cents: int


@dataclass(frozen=True, slots=True)
class Shipment:
    order_id: str
    lines: Lines


@dataclass(frozen=True, slots=True)
class Key:
    """An idempotency key: how often the service was asked with it, and how many effects bear it."""

    service: str
    key: str
    kind: str
    status: str
    times_seen: int
    effects: int


@dataclass(frozen=True, slots=True)
class Books:
    stock: Mapping[str, Stock]
    reservations: list[Reservation]
    charges: list[Charge]
    shipments: list[Shipment]
    keys: list[Key]

    def reserved(self) -> Lines:
        """Pieces that are set aside for an order and have not been shipped."""
        shipped = {shipment.order_id for shipment in self.shipments}
        open_ones = [each for each in self.reservations if not each.released and each.order_id not in shipped]
        return _total(each.lines for each in open_ones)

    def shipped(self) -> Lines:
        return _total(shipment.lines for shipment in self.shipments)


STOCK: Final = "select sku, initial, available from inventory.stock order by sku"
RESERVATIONS: Final = """
select order_id, released_by is not null,
    (select jsonb_object_agg(sku, pieces)
     from (select sku, sum(quantity) as pieces from inventory.reserved_lines as line
           where line.reservation_id = reservation.reservation_id group by sku) as by_sku)
from inventory.reservations as reservation
"""
CHARGES: Final = """
select order_id, amount_cents,
    (select coalesce(sum(refund.amount_cents), 0)::integer from payments.refunds as refund
     where refund.charge_id = charge.charge_id)
from payments.charges as charge
"""
SHIPMENTS: Final = """
select order_id,
    (select jsonb_object_agg(sku, pieces)
     from (select sku, sum(quantity) as pieces from shipping.shipped_lines as line
           where line.shipment_id = shipment.shipment_id group by sku) as by_sku)
from shipping.shipments as shipment
"""
# Effects without a key are kept too: something was done that no call asked for.
KEYS: Final = """
with effects (service, key) as (
    select 'inventory', idempotency_key from inventory.reservations
    union all select 'inventory', released_by from inventory.reservations where released_by is not null
    union all select 'payments', idempotency_key from payments.charges
    union all select 'payments', idempotency_key from payments.refunds
    union all select 'shipping', idempotency_key from shipping.shipments
), counted as (
    select service, key, count(*)::integer as effects from effects group by service, key
), operations as (
    select 'inventory' as service, * from inventory.operations
    union all select 'payments', * from payments.operations
    union all select 'shipping', * from shipping.operations
)
select coalesce(operations.service, counted.service), coalesce(idempotency_key, key), coalesce(kind, 'unknown'),
    coalesce(status, ''), coalesce(times_seen, 0), coalesce(effects, 0)
from operations full join counted
    on counted.service = operations.service and counted.key = operations.idempotency_key
"""


def read_books(connection: Connection) -> Books:
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        return Books(
            stock={sku: Stock(initial, left) for sku, initial, left in connection.execute(STOCK)},
            reservations=[
                Reservation(order_id, released, _lines(goods))
                for order_id, released, goods in connection.execute(RESERVATIONS)
            ],
            charges=[Charge(*row) for row in connection.execute(CHARGES)],
            shipments=[
                Shipment(order_id, _lines(goods)) for order_id, goods in connection.execute(SHIPMENTS)
            ],
            keys=[Key(*row) for row in connection.execute(KEYS)],
        )


def find_faults(books: Books, orders: Mapping[str, Order], statuses: Mapping[str, str]) -> list[str]:
    """What does not add up, in words. `statuses` are the names of the sagas' statuses, by order."""
    return [
        *_faults_of_stock(books),
        *_faults_of_money(books, orders, statuses),
        *_faults_of_keys(books),
        *_faults_of_strangers(books, orders, statuses),
        *(fault for order in orders.values() for fault in _faults_of_order(books, order, statuses)),
    ]


def _faults_of_stock(books: Books) -> Iterator[str]:
    reserved, shipped = books.reserved(), books.shipped()
    for sku, stock in books.stock.items():
        accounted = stock.available + reserved[sku] + shipped[sku]
        if accounted != stock.initial:
            yield (
                f"{sku}: {stock.available} in stock + {reserved[sku]} reserved + {shipped[sku]} shipped"
                f" = {accounted}, but there were {stock.initial}"
            )


def _faults_of_money(books: Books, orders: Mapping[str, Order], statuses: Mapping[str, str]) -> Iterator[str]:
    earned = sum(
        order.amount_cents for order in orders.values() if statuses.get(order.order_id) == "COMPLETED"
    )
    net = sum(charge.amount_cents - charge.refunded_cents for charge in books.charges)
    if net != earned:
        yield f"charged less refunded is {net} cents, but the completed orders are worth {earned}"


def _faults_of_keys(books: Books) -> Iterator[str]:
    for key in books.keys:
        if key.kind == "unknown":
            yield f"{key.service}: an effect bears the key {key.key}, with which nobody ever asked"
        if key.effects > 1:
            yield f"{key.service}: the key {key.key} was applied {key.effects} times"


def _faults_of_strangers(
    books: Books, orders: Mapping[str, Order], statuses: Mapping[str, str]
) -> Iterator[str]:
    for order_id in sorted(statuses.keys() - orders.keys()):
        yield f"order {order_id}: there is a saga, but nobody ordered this"
    served = {
        *(reservation.order_id for reservation in books.reservations),
        *(charge.order_id for charge in books.charges),
        *(shipment.order_id for shipment in books.shipments),
    }
    for order_id in sorted(served - orders.keys()):
        yield f"order {order_id}: something was done for it, but nobody ordered this"


def _faults_of_order(books: Books, order: Order, statuses: Mapping[str, str]) -> Iterator[str]:
    order_id, status = order.order_id, statuses.get(order.order_id, "missing")
    if status not in {"COMPLETED", "COMPENSATED"}:
        yield f"order {order_id}: its saga has not ended, it is {status}"
        return
    if status == "COMPLETED":
        goods_due, cents_due = Counter({line.sku: line.quantity for line in order.lines}), order.amount_cents
    else:
        goods_due, cents_due = Counter[str](), 0
    held = _total(
        each.lines for each in books.reservations if each.order_id == order_id and not each.released
    )
    if held != goods_due:
        yield f"order {order_id}: {status}, but {_in_words(held)} reserved instead of {_in_words(goods_due)}"
    charges = [charge for charge in books.charges if charge.order_id == order_id]
    cents = sum(charge.amount_cents - charge.refunded_cents for charge in charges)
    if cents != cents_due or any(charge.refunded_cents > charge.amount_cents for charge in charges):
        yield f"order {order_id}: {status}, but {cents} cents charged instead of {cents_due}"
    shipments = [shipment for shipment in books.shipments if shipment.order_id == order_id]
    if len(shipments) != (1 if status == "COMPLETED" else 0):
        yield f"order {order_id}: {status}, but shipped {len(shipments)} times"
    shipped = _total(shipment.lines for shipment in shipments)
    if shipped != goods_due:
        yield f"order {order_id}: {status}, but {_in_words(shipped)} shipped instead of {_in_words(goods_due)}"


def _lines(goods: dict[str, Any] | None) -> Lines:
    return Counter({sku: int(pieces) for sku, pieces in (goods or {}).items()})


def _total(many: Iterable[Lines]) -> Lines:
    return sum(many, Counter[str]())


def _in_words(lines: Lines) -> str:
    return ", ".join(f"{pieces} {sku}" for sku, pieces in sorted(lines.items())) or "nothing"
