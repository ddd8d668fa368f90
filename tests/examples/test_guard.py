"""The guard alone, on real Postgres: what it promises when calls come twice, too late, or at the same time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import psycopg
import pytest
from google.protobuf.struct_pb2 import NULL_VALUE, Value
from order_fulfilment import guard
from order_fulfilment.guard import Answer, Output, Refused
from psycopg import Connection
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

from tests.eventually import wait_until

OK = grpc.StatusCode.OK
Open = Callable[[], Connection]


@pytest.fixture
def open_connection(empty_database_dsn: str) -> Iterator[Open]:
    """Opens one more connection to a database with the guard's table and a table of effects."""
    with ExitStack() as stack:

        def opened() -> Connection:
            return stack.enter_context(psycopg.connect(empty_database_dsn, autocommit=True))

        connection = opened()
        connection.execute(guard.SCHEMA)
        connection.execute("create table effects (key text not null, undone boolean not null default false)")
        yield opened


def act(connection: Connection, request: ExecuteRequest) -> Output:
    connection.execute("insert into effects (key) values (%s)", (request.idempotency_key,))
    return {"done": request.idempotency_key}


def undo(connection: Connection, request: CompensateRequest) -> Output:
    key = request.action_idempotency_key
    return {"undone": connection.execute("update effects set undone = true where key = %s", (key,)).rowcount}


def execute_request(text: str = "one payload", key: str = "action") -> ExecuteRequest:
    return ExecuteRequest(idempotency_key=key, method="Act", input=Value(string_value=text))


def compensate_request(key: str = "compensation", action_key: str = "action") -> CompensateRequest:
    return CompensateRequest(idempotency_key=key, method="Undo", action_idempotency_key=action_key)


def effects(connection: Connection) -> list[tuple[str, bool]]:
    return connection.execute("select key, undone from effects order by key").fetchall()


class Gate:
    """An action that stops half-way, with its effect written and not committed, until it is told how to go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.failure: Exception | None = None

    def act(self, connection: Connection, request: ExecuteRequest) -> Output:
        output = act(connection, request)
        self.reached.set()
        assert self.opened.wait(timeout=30)
        if self.failure is not None:
            raise self.failure
        return output


def wait_until_blocked(observer: Connection, connection: Connection) -> None:
    """Returns when `connection` waits for another transaction's lock."""
    blocked = "select cardinality(pg_blocking_pids(%s)) > 0"
    look = (connection.info.backend_pid,)
    wait_until(lambda: observer.execute(blocked, look).fetchall()[0][0], "another transaction's lock")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=8) as executor:
        yield executor


def test_a_repeated_action_is_answered_from_memory(open_connection: Open) -> None:
    connection = open_connection()
    first = guard.execute(connection, execute_request(), act)
    second = guard.execute(connection, execute_request(), act)
    assert first == Answer(OK, output={"done": "action"})
    assert second == Answer(OK, output={"done": "action"}, from_memory=True)
    assert effects(connection) == [("action", False)]
    assert connection.execute("select times_seen from operations").fetchall() == [(2,)]


def test_concurrent_duplicates_apply_once(open_connection: Open, threads: ThreadPoolExecutor) -> None:
    connections = [open_connection() for _ in range(8)]
    start = threading.Barrier(len(connections))

    def call(connection: Connection, key: str) -> Answer:
        start.wait(timeout=30)
        return guard.execute(connection, execute_request(key=key), act)

    for round_number in range(20):
        key = f"key-{round_number}"
        answers = list(threads.map(call, connections, [key] * len(connections)))
        assert {answer.code for answer in answers} == {OK}
        assert sum(not answer.from_memory for answer in answers) == 1
    assert len(effects(connections[0])) == 20
    assert connections[0].execute("select distinct times_seen from operations").fetchall() == [(8,)]


def test_a_duplicate_waits_for_the_first_and_gets_its_answer(
    open_connection: Open, threads: ThreadPoolExecutor
) -> None:
    gate, first_connection, second_connection = Gate(), open_connection(), open_connection()
    first = threads.submit(guard.execute, first_connection, execute_request(), gate.act)
    assert gate.reached.wait(timeout=30)
    second = threads.submit(guard.execute, second_connection, execute_request(), act)
    wait_until_blocked(open_connection(), second_connection)
    gate.opened.set()
    assert not first.result().from_memory
    assert second.result() == Answer(OK, output={"done": "action"}, from_memory=True)
    assert effects(first_connection) == [("action", False)]


def test_a_duplicate_does_the_work_when_the_first_has_failed(
    open_connection: Open, threads: ThreadPoolExecutor
) -> None:
    gate, first_connection, second_connection = Gate(), open_connection(), open_connection()
    gate.failure = ZeroDivisionError("the service has a defect")
    first: Future[Answer] = threads.submit(guard.execute, first_connection, execute_request(), gate.act)
    assert gate.reached.wait(timeout=30)
    second = threads.submit(guard.execute, second_connection, execute_request(), act)
    wait_until_blocked(open_connection(), second_connection)
    gate.opened.set()
    with pytest.raises(ZeroDivisionError):
        first.result()
    assert second.result() == Answer(OK, output={"done": "action"})
    assert effects(first_connection) == [("action", False)]


def test_the_same_key_with_another_payload_is_refused(open_connection: Open) -> None:
    connection = open_connection()
    guard.execute(connection, execute_request("one payload"), act)
    with pytest.raises(Refused) as refusal:
        guard.execute(connection, execute_request("another payload"), act)
    assert refusal.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert effects(connection) == [("action", False)]
    assert guard.execute(connection, execute_request("one payload"), act).from_memory


def test_the_same_compensation_key_for_another_action_is_refused(open_connection: Open) -> None:
    connection = open_connection()
    guard.execute(connection, execute_request(key="other"), act)
    guard.compensate(connection, compensate_request(action_key="action"), undo)
    with pytest.raises(Refused) as refusal:
        guard.compensate(connection, compensate_request(action_key="other"), undo)
    assert refusal.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert effects(connection) == [("other", False)]


def test_a_refusal_is_remembered_and_leaves_nothing(open_connection: Open) -> None:
    connection = open_connection()

    def begin_and_refuse(connection: Connection, request: ExecuteRequest) -> Output:
        act(connection, request)
        raise Refused("not today")

    first = guard.execute(connection, execute_request(), begin_and_refuse)
    second = guard.execute(connection, execute_request(), act)
    assert first == Answer(grpc.StatusCode.FAILED_PRECONDITION, "not today")
    assert second == Answer(grpc.StatusCode.FAILED_PRECONDITION, "not today", from_memory=True)
    assert effects(connection) == []
    assert guard.compensate(connection, compensate_request(), undo) == guard.NOTHING_TO_UNDO


def test_a_repeated_compensation_undoes_once(open_connection: Open) -> None:
    connection = open_connection()
    guard.execute(connection, execute_request(), act)
    first = guard.compensate(connection, compensate_request(), undo)
    second = guard.compensate(connection, compensate_request(), undo)
    assert first == Answer(OK, output={"undone": 1})
    assert second == Answer(OK, output={"undone": 1}, from_memory=True)
    assert effects(connection) == [("action", True)]


def test_concurrent_compensations_undo_once(open_connection: Open, threads: ThreadPoolExecutor) -> None:
    connections = [open_connection() for _ in range(4)]
    guard.execute(connections[0], execute_request(), act)
    start = threading.Barrier(len(connections))

    def call(connection: Connection) -> Answer:
        start.wait(timeout=30)
        return guard.compensate(connection, compensate_request(), undo)

    answers = list(threads.map(call, connections))
    assert {answer.code for answer in answers} == {OK}
    assert sum(not answer.from_memory for answer in answers) == 1


def test_compensations_with_two_keys_undo_once(open_connection: Open, threads: ThreadPoolExecutor) -> None:
    gate, first_connection, second_connection = Gate(), open_connection(), open_connection()
    guard.execute(first_connection, execute_request(), act)

    def undo_slowly(connection: Connection, request: CompensateRequest) -> Output:
        gate.reached.set()
        assert gate.opened.wait(timeout=30)
        return undo(connection, request)

    first = threads.submit(guard.compensate, first_connection, compensate_request("one"), undo_slowly)
    assert gate.reached.wait(timeout=30)
    second = threads.submit(guard.compensate, second_connection, compensate_request("two"), undo)
    wait_until_blocked(open_connection(), second_connection)
    gate.opened.set()
    assert first.result() == Answer(OK, output={"undone": 1})
    assert second.result() == guard.NOTHING_TO_UNDO


def test_compensating_what_never_happened_changes_nothing(open_connection: Open) -> None:
    connection = open_connection()
    assert guard.compensate(connection, compensate_request(), undo) == guard.NOTHING_TO_UNDO
    repeated = guard.compensate(connection, compensate_request(), undo)
    assert (repeated.code, repeated.from_memory) == (grpc.StatusCode.NOT_FOUND, True)
    assert effects(connection) == []


def test_an_action_that_arrives_after_its_compensation_is_refused(open_connection: Open) -> None:
    connection = open_connection()
    guard.compensate(connection, compensate_request(), undo)
    late = guard.execute(connection, execute_request(), act)
    assert (late.code, late.message) == (guard.LATE.code, guard.LATE.message)
    assert effects(connection) == []


def test_a_repeated_action_after_its_compensation_is_refused(open_connection: Open) -> None:
    connection = open_connection()
    guard.execute(connection, execute_request(), act)
    guard.compensate(connection, compensate_request(), undo)
    late = guard.execute(connection, execute_request(), act)
    assert (late.code, late.message) == (guard.LATE.code, guard.LATE.message)
    assert effects(connection) == [("action", True)]


def test_a_compensation_waits_for_the_action_in_flight(
    open_connection: Open, threads: ThreadPoolExecutor
) -> None:
    gate, action_connection, compensation_connection = Gate(), open_connection(), open_connection()
    action = threads.submit(guard.execute, action_connection, execute_request(), gate.act)
    assert gate.reached.wait(timeout=30)
    compensation = threads.submit(guard.compensate, compensation_connection, compensate_request(), undo)
    wait_until_blocked(open_connection(), compensation_connection)
    gate.opened.set()
    assert action.result().code is OK
    assert compensation.result() == Answer(OK, output={"undone": 1})
    assert effects(action_connection) == [("action", True)]


def test_a_refused_compensation_can_be_attempted_again(open_connection: Open) -> None:
    connection = open_connection()
    guard.execute(connection, execute_request(), act)

    def undo_and_refuse(connection: Connection, request: CompensateRequest) -> Output:
        undo(connection, request)
        raise Refused("a person has to look at this")

    with pytest.raises(Refused):
        guard.compensate(connection, compensate_request(), undo_and_refuse)
    assert effects(connection) == [("action", False)]
    assert guard.compensate(connection, compensate_request(), undo) == Answer(OK, output={"undone": 1})


@pytest.mark.parametrize("value", [Value(), Value(bool_value=True), Value(null_value=NULL_VALUE)])
def test_any_input_has_a_digest(open_connection: Open, value: Value) -> None:
    connection = open_connection()
    request = ExecuteRequest(idempotency_key="action", method="Act", input=value)
    assert not guard.execute(connection, request, act).from_memory
    assert guard.execute(connection, request, act).from_memory
