"""The three services on real tables: what each does, refuses and undoes.

What depends on a connection, such as time-outs and calls at once, is looked at over real gRPC; for everything else the services'
servicers are called without a server.
"""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from order_fulfilment.orders import GOOD_CARD, slow_card
from order_fulfilment.payments import DECLINED_CARD, LATE_CARD
from order_fulfilment.processes import CHANNEL_OPTIONS, is_serving, wait_until
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest
from saga_client.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.examples.conftest import Connect, Speak, Spoken

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CHARGING = (
    "select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
)
TEAPOT = {"sku": "teapot", "quantity": 1}


def execute(
    participant: ParticipantServiceStub | Spoken, method: str, fields: dict[str, Any], key: str = "action"
) -> Any:
    request = ExecuteRequest(idempotency_key=key, method=method, input=ParseDict(fields, Value()))
    return MessageToDict(participant.Execute(request, timeout=30).output)


def compensate(participant: ParticipantServiceStub | Spoken, method: str, action_key: str = "action") -> Any:
    request = CompensateRequest(
        idempotency_key=f"undo {action_key}", method=method, action_idempotency_key=action_key
    )
    return MessageToDict(participant.Compensate(request, timeout=30).output)


def status_of(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    return error.value.code(), error.value.details() or ""


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def payment(card: str = GOOD_CARD, amount_cents: object = 4_460) -> dict[str, Any]:
    return {"order_id": "A-17", "card": card, "amount_cents": amount_cents}


def test_inventory_reserves_and_releases(speak: Speak, empty_database_dsn: str) -> None:
    inventory = speak("inventory")
    lines = [TEAPOT, {"sku": "cup", "quantity": 4}, TEAPOT]
    execute(inventory, "Reserve", {"order_id": "A-17", "lines": lines})
    stock = "select sku, available from inventory.stock order by sku"
    assert rows(empty_database_dsn, stock) == [("cup", 4_996), ("green-tea", 2_000), ("teapot", 998)]
    compensate(inventory, "Release")
    assert rows(empty_database_dsn, stock) == [("cup", 5_000), ("green-tea", 2_000), ("teapot", 1_000)]


def test_inventory_takes_nothing_when_one_line_is_out_of_stock(speak: Speak, empty_database_dsn: str) -> None:
    lines = [{"sku": "cup", "quantity": 4}, {"sku": "teapot", "quantity": 1_001}]
    with pytest.raises(grpc.RpcError) as error:
        execute(speak("inventory"), "Reserve", {"order_id": "A-17", "lines": lines})
    assert status_of(error) == (grpc.StatusCode.FAILED_PRECONDITION, "out of stock: teapot")
    assert rows(empty_database_dsn, "select sku from inventory.stock where available <> initial") == []
    assert rows(empty_database_dsn, "select * from inventory.reservations") == []


def test_payments_charge_and_refund(speak: Speak, empty_database_dsn: str) -> None:
    payments = speak("payments")
    first = execute(payments, "Charge", payment())
    assert execute(payments, "Charge", payment()) == first
    assert rows(empty_database_dsn, "select card_ending, amount_cents from payments.charges") == [
        ("4242", 4_460)
    ]
    assert compensate(payments, "Refund") == {"refunded_cents": 4_460}
    assert compensate(payments, "Refund") == {"refunded_cents": 4_460}
    assert rows(empty_database_dsn, "select amount_cents from payments.refunds") == [(4_460,)]


def test_a_declined_card_is_refused_each_time(speak: Speak, empty_database_dsn: str) -> None:
    payments = speak("payments")
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as error:
            execute(payments, "Charge", payment(DECLINED_CARD))
        told = (grpc.StatusCode.FAILED_PRECONDITION, "card declined: insufficient funds")
        assert status_of(error) == told
    assert rows(empty_database_dsn, "select * from payments.charges") == []


def test_concurrent_duplicates_charge_once(connect: Connect, empty_database_dsn: str) -> None:
    payments = connect("payments")
    with ThreadPoolExecutor(max_workers=8) as threads:
        calls = [threads.submit(execute, payments, "Charge", payment(slow_card(50))) for _ in range(8)]
        answers = [call.result() for call in calls]
    assert answers == answers[:1] * 8
    assert rows(empty_database_dsn, "select amount_cents from payments.charges") == [(4_460,)]


def test_the_late_card_is_charged_though_nobody_hears_of_it(
    connect: Connect, empty_database_dsn: str
) -> None:
    payments = connect("payments")
    request = ExecuteRequest(
        idempotency_key="action", method="Charge", input=ParseDict(payment(LATE_CARD), Value())
    )
    with pytest.raises(grpc.RpcError) as error:
        payments.Execute(request, timeout=1.0)
    assert status_of(error)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rows(empty_database_dsn, "select amount_cents from payments.charges") == [(4_460,)]
    assert compensate(payments, "Refund") == {"refunded_cents": 4_460}


def test_a_charge_after_its_refund_is_refused(speak: Speak, empty_database_dsn: str) -> None:
    payments = speak("payments")
    with pytest.raises(grpc.RpcError) as error:
        compensate(payments, "Refund")
    assert status_of(error)[0] is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as error:
        execute(payments, "Charge", payment())
    assert status_of(error)[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert rows(empty_database_dsn, "select * from payments.charges") == []


def test_shipping_books_one_courier(speak: Speak, empty_database_dsn: str) -> None:
    shipping = speak("shipping")
    order = {"order_id": "A-17", "address": "here", "reservation_id": "r", "lines": [TEAPOT]}
    assert execute(shipping, "Schedule", order) == execute(shipping, "Schedule", order)
    assert rows(empty_database_dsn, "select order_id from shipping.shipments") == [("A-17",)]


NONSENSE: list[tuple[str, str, dict[str, Any], str]] = [
    ("inventory", "Reserve", {"order_id": "A"}, "lines must be a list"),
    ("inventory", "Reserve", {"order_id": "A", "lines": [7]}, "lines must be a list"),
    ("inventory", "Reserve", {"order_id": 7, "lines": [TEAPOT]}, "order_id must be a text"),
    ("inventory", "Reserve", {"order_id": "A\0", "lines": [TEAPOT]}, "order_id must be a text"),
    ("payments", "Charge", payment("4242"), "card must have sixteen digits"),
    ("payments", "Charge", payment(amount_cents=0), "amount_cents must be a positive whole number"),
    ("payments", "Charge", payment(amount_cents=0.5), "amount_cents must be a positive whole number"),
    ("payments", "Charge", payment(amount_cents=True), "amount_cents must be a number"),
    ("payments", "Charge", payment(amount_cents="7"), "amount_cents must be a number"),
    ("payments", "Charge", payment(amount_cents=1e12), "amount_cents must be a positive whole number"),
    ("payments", "Charge", payment(LATE_CARD, amount_cents=0), "amount_cents must be a positive"),
]


def test_input_that_makes_no_sense_is_refused(speak: Speak) -> None:
    participants = {"inventory": speak("inventory"), "payments": speak("payments")}
    for name, method, fields, why in NONSENSE:
        with pytest.raises(grpc.RpcError) as error:
            execute(participants[name], method, fields, key=str(fields))
        code, details = status_of(error)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert why in details


def test_an_unknown_method_is_unimplemented(speak: Speak) -> None:
    shipping = speak("shipping")
    with pytest.raises(grpc.RpcError) as error:
        execute(shipping, "Charge", {})
    assert status_of(error)[0] is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as error:
        compensate(shipping, "Schedule")
    assert status_of(error)[0] is grpc.StatusCode.UNIMPLEMENTED


def test_sigterm_lets_a_call_in_flight_finish(empty_database_dsn: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/payments"
    program = [sys.executable, "-m", "order_fulfilment.payments"]
    process = subprocess.Popen(
        [*program, "--address", address, "--database-url", empty_database_dsn],
        cwd=EXAMPLES,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            wait_until(lambda: is_serving(channel), "payments to serve")
            request = ExecuteRequest(
                idempotency_key="action", method="Charge", input=ParseDict(payment(slow_card(1_000)), Value())
            )
            call = ParticipantServiceStub(channel).Execute.future(request, timeout=30)
            wait_until(lambda: bool(rows(empty_database_dsn, CHARGING)), "the charge to be under way")
            process.send_signal(signal.SIGTERM)
            assert MessageToDict(call.result().output)["charge_id"]
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    assert rows(empty_database_dsn, "select amount_cents from payments.charges") == [(4_460,)]


def test_an_occupied_port_is_said_and_not_shared(empty_database_dsn: str) -> None:
    program = [sys.executable, "-m", "order_fulfilment.shipping", "--database-url", empty_database_dsn]
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        done = subprocess.run(
            [*program, "--address", f"127.0.0.1:{port}"],
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        server.stop(None).wait()
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
