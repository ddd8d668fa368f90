"""The six stories that the demo tells, each on the same running processes."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from psycopg import Connection
from rich.console import Console
from rich.markup import escape
from saga_client.v1.saga_service_pb2 import ListSagasRequest, StartSagaRequest
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from order_fulfilment.orders import Order, many_orders, one_order, slow_card
from order_fulfilment.payments import DECLINED_CARD, LATE_CARD
from order_fulfilment.processes import Processes, wait_until
from order_fulfilment.timeline import STATUS_STYLES, Story, Timeline, status_name

DEFINITION: Final = "order-fulfilment"
CROWD: Final = 200
CROWD_SECONDS: Final = 60.0
DOWN_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 2

CHARGES: Final = """
select count(distinct charge.idempotency_key), count(distinct charge.charge_id), count(refund.refund_id)
from payments.charges as charge left join payments.refunds as refund using (charge_id) where charge.order_id = %s
"""
CHARGES_IN_FLIGHT: Final = """
select count(*) from pg_stat_activity where application_name = 'payments' and state = 'idle in transaction'
"""


@dataclass(slots=True)
class Stage:
    """Where the stories play: the processes, the audience, and what has to come out in the end."""

    processes: Processes
    console: Console
    sagas: SagaServiceStub
    shop: Connection
    crowd: int = CROWD
    orders: dict[str, Order] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def timeline(self) -> Timeline:
        return Timeline(self.console, self.sagas)

    def place(self, order: Order, deadline_seconds: int | None = None) -> Story:
        request = self.request(order)
        if deadline_seconds is not None:
            request.deadline.CopyFrom(Duration(seconds=deadline_seconds))
        return Story(self.sagas.StartSaga(request, timeout=10.0).saga)

    def request(self, order: Order) -> StartSagaRequest:
        """Starts an order's saga; the order's number is the start key, so that repeating it would start no second one."""
        self.orders[order.order_id] = order
        return StartSagaRequest(
            definition=DEFINITION, start_key=order.order_id, input=ParseDict(order.input, Value())
        )

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def expect_end(self, order: Order, story: Story, status: str) -> None:
        self.expect(story.status == status, f"order {order.order_id} ended {story.status}, not {status}")

    def say(self, words: str) -> None:
        self.console.print(f"   [italic]{escape(words)}[/italic]")

    def charges(self, order: Order) -> tuple[int, int, int]:
        """The order's keys, charges and refunds in the tables of payments."""
        keys, charges, refunds = self.shop.execute(CHARGES, (order.order_id,)).fetchall()[0]
        return keys, charges, refunds

    def statuses(self) -> dict[str, str]:
        """Of all sagas, by order."""
        statuses: dict[str, str] = {}
        request = ListSagasRequest(definition=DEFINITION, page_size=100)
        while True:
            page = self.sagas.ListSagas(request, timeout=10.0)
            statuses.update({saga.start_key: status_name(saga.status) for saga in page.sagas})
            if not page.next_page_token:
                return statuses
            request.page_token = page.next_page_token


def an_order_completes(stage: Stage) -> None:
    order = one_order("plain")
    story = stage.place(order)
    stage.timeline.follow(story)
    stage.expect_end(order, story, "COMPLETED")


def a_card_is_declined(stage: Stage) -> None:
    order = one_order("declined", DECLINED_CARD)
    stage.say("Payments refuses, so the charge needs no undoing; the stock that was reserved is released.")
    story = stage.place(order)
    stage.timeline.follow(story)
    stage.expect_end(order, story, "COMPENSATED")
    reason = story.saga.failure.message
    stage.expect("card declined" in reason, f"order declined was compensated because of {reason!r}")


def payments_is_down(stage: Stage) -> None:
    order = one_order("outage")
    stage.say(f"The payments process is stopped, and started again after {DOWN_SECONDS:.0f} seconds.")
    stage.processes.stop("payments")
    up_at = time.monotonic() + DOWN_SECONDS
    story = stage.place(order)
    stage.timeline.follow(story, lambda story: _has_missed_it(story) and time.monotonic() > up_at)
    stage.processes.start_participant("payments")
    stage.timeline.follow(story)
    keys, charges, _ = stage.charges(order)
    attempts = story.count("attempt_started", "charge")
    stage.say(
        f"{attempts} attempts, all with the same key: payments knows {keys} key and made {charges} charge."
    )
    stage.expect_end(order, story, "COMPLETED")
    stage.expect(attempts > 1, "order outage was charged at the first attempt, with payments down")
    stage.expect((keys, charges) == (1, 1), f"order outage: {keys} keys and {charges} charges at payments")


def _has_missed_it(story: Story) -> bool:
    """Whether a charge came to nothing: a call failed, or there was no worker to hand it to."""
    return story.count("attempt_unknown", "charge") + story.count("attempt_held", "charge") > 0


def an_answer_comes_too_late(stage: Stage) -> None:
    order = one_order("late", LATE_CARD)
    stage.say(
        "The card is charged, but each answer comes after the attempt's 0.8 s. This customer's patience"
    )
    stage.say(
        f"({PATIENCE_SECONDS} s, the saga's deadline) ends first: what may have happened is undone too."
    )
    story = stage.place(order, deadline_seconds=PATIENCE_SECONDS)
    stage.timeline.follow(story)
    _, charges, refunds = stage.charges(order)
    stage.say(f"The coordinator never heard of it, yet payments had made {charges} charge: {refunds} refund.")
    stage.expect_end(order, story, "COMPENSATED")
    stage.expect((charges, refunds) == (1, 1), f"order late: {charges} charges and {refunds} refunds")


def the_coordinator_is_killed(stage: Stage) -> None:
    order = one_order("crash", slow_card(600))
    stage.say("kill -9 of the coordinator while the charge is under way, and a new one is started.")
    story = stage.place(order)
    stage.timeline.follow(story, lambda story: story.count("attempt_started", "charge") > 0)
    wait_until(
        lambda: stage.shop.execute(CHARGES_IN_FLIGHT).fetchall()[0][0] > 0, "the charge to be under way"
    )
    stage.processes.kill("coordinator")
    killed_at = time.monotonic()
    stage.console.print("   [bold magenta]kill -9[/bold magenta]")
    stage.processes.start_coordinator()
    stage.timeline.follow(story)
    keys, charges, _ = stage.charges(order)
    seconds = time.monotonic() - killed_at
    stage.say(f"Ended {seconds:.1f} s after the kill. Asked again with the same key: {charges} charge.")
    stage.expect_end(order, story, "COMPLETED")
    stage.expect((keys, charges) == (1, 1), f"order crash: {keys} keys and {charges} charges at payments")


def a_crowd_comes(stage: Stage) -> None:
    orders = list(many_orders(stage.crowd, seed=round(time.time())))
    declined = [order.order_id for order in orders if order.card == DECLINED_CARD]
    stage.say(f"{stage.crowd} orders at once; {len(declined)} cards are declined, one bank in five is slow.")
    began = time.monotonic()
    calls = []
    for order in orders:
        request = stage.request(order)
        request.wait = True
        calls.append(stage.sagas.StartSaga.future(request, timeout=CROWD_SECONDS))
    with stage.console.status("") as status:

        def all_have_ended() -> bool:
            ended = sum(call.done() for call in calls)
            status.update(f"{ended} of {stage.crowd} have ended")
            return ended == stage.crowd

        wait_until(all_have_ended, f"{stage.crowd} orders to end", CROWD_SECONDS)
    seconds = time.monotonic() - began
    ends = Counter(status_name(call.result().saga.status) for call in calls)
    told = ", ".join(f"[{STATUS_STYLES.get(end, 'bold red')}]{n} {end}[/]" for end, n in ends.most_common())
    stage.console.print(f"   {told} in {seconds:.1f} s, {stage.crowd / seconds:.0f} orders a second")
    ended = {call.result().saga.start_key: status_name(call.result().saga.status) for call in calls}
    for order_id in declined:
        stage.expect(ended.get(order_id) == "COMPENSATED", f"order {order_id} ended {ended.get(order_id)}")


STORIES: Final[list[tuple[str, Callable[[Stage], Any]]]] = [
    ("An order that completes", an_order_completes),
    ("A declined card", a_card_is_declined),
    ("Payments is down", payments_is_down),
    ("An answer that comes too late", an_answer_comes_too_late),
    ("A crash between two steps", the_coordinator_is_killed),
    ("A busy day", a_crowd_comes),
]
