"""What the demo's customers order."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from order_fulfilment.inputs import Line
from order_fulfilment.payments import DECLINED_CARD, SLOW_CARD_PREFIX

GOOD_CARD: Final = "4242424242424242"
PRICES_CENTS: Final = {"teapot": 2_900, "cup": 450, "green-tea": 780}


@dataclass(frozen=True, slots=True)
class Order:
    order_id: str
    card: str
    lines: tuple[Line, ...]

    @property
    def amount_cents(self) -> int:
        return sum(PRICES_CENTS[line.sku] * line.quantity for line in self.lines)

    @property
    def input(self) -> dict[str, Any]:
        """What the saga is started with."""
        return {
            "order_id": self.order_id,
            "card": self.card,
            "amount_cents": self.amount_cents,
            "address": "12 Canal Street, Utrecht",
            "lines": [{"sku": line.sku, "quantity": line.quantity} for line in self.lines],
        }


def one_order(order_id: str, card: str = GOOD_CARD) -> Order:
    return Order(order_id, card, (Line("teapot", 1), Line("green-tea", 2)))


def slow_card(milliseconds: int) -> str:
    """A card that is charged after so many milliseconds."""
    return f"{SLOW_CARD_PREFIX}{milliseconds:04}"


def many_orders(count: int, seed: int) -> Iterator[Order]:
    """Orders of a busy day: every fiftieth card is declined, and one in five banks is slow.

    A tenth of the slow ones take longer than the charge's timeout.
    """
    chance = random.Random(seed)
    for number in range(1, count + 1):
        skus = chance.sample(sorted(PRICES_CENTS), k=chance.randint(1, 3))
        lines = tuple(Line(sku, chance.randint(1, 3)) for sku in skus)
        if number % 50 == 0:
            card = DECLINED_CARD
        elif chance.random() < 0.2:
            card = slow_card(chance.randint(50, 400) if chance.random() < 0.9 else chance.randint(900, 1_200))
        else:
            card = GOOD_CARD
        yield Order(f"crowd-{number:03}", card, lines)
