"""The database goes away under a coordinator, and comes back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from psycopg import sql

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.saga_service_pb2 import StartSagaRequest
from saga_coordinator.store.embedded import EmbeddedPostgres
from tests.acceptance.conftest import Client, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def without_database(server: EmbeddedPostgres, dsn: str) -> Iterator[None]:
    """The database of `dsn` refuses everybody."""
    name = dsn.rpartition("/")[2]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def test_an_outage_loses_nothing_and_is_told(
    serving: StartServing,
    connect: Callable[[str], Client],
    shop: Shop,
    participants_file: str,
    postgres_server: EmbeddedPostgres,
    database_dsn: str,
) -> None:
    program = serving("--participants", participants_file, "--lease-seconds", "0.5")
    client = connect(program.address)
    client.register("slow", "hang", "quick")
    accepted = client.start("slow", "before").saga_id
    assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"
    watch = client.watch_health("saga.v1.SagaService")
    _await_health(watch, SERVING)
    request = StartSagaRequest(definition="slow", start_key="during")
    with without_database(postgres_server, database_dsn):
        _await_health(watch, NOT_SERVING)
        with pytest.raises(grpc.RpcError) as caught:
            client.sagas.StartSaga(request, timeout=PATIENCE_SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it is a grpc.Call, too
        assert status is not None
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToMilliseconds() > 0
        shop.may_answer.set()  # an outcome that cannot be written down yet
    _await_health(watch, SERVING)
    for saga_id in (accepted, client.start("slow", "during").saga_id):
        assert client.settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED
    watch.cancel()


def test_what_is_no_outage_is_told_as_what_it_is(
    serving: StartServing,
    connect: Callable[[str], Client],
    participants_file: str,
    database_dsn: str,
) -> None:
    """A table that is away for a moment: nobody may go on saying SERVING, and nobody may stay dead when it is back."""
    program = serving("--participants", participants_file, "--lease-seconds", "2", "--log-format", "json")
    client = connect(program.address)
    client.register("quick", "quick")
    watch = client.watch_health("saga.v1.SagaService")
    _await_health(watch, SERVING)
    request = StartSagaRequest(definition="quick", start_key="one")
    with psycopg.connect(database_dsn, autocommit=True) as connection:

        def is_told_why() -> bool:
            """Not the first time on a busy machine, if the lease runs out before its renewal has failed."""
            connection.execute("ALTER TABLE saga.coordinators RENAME TO gone")
            _await_health(watch, NOT_SERVING)
            with pytest.raises(grpc.RpcError) as refused:
                _start_until_refused(client, request)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "cannot reach" not in (refused.value.details() or "")
            connection.execute("ALTER TABLE saga.gone RENAME TO coordinators")
            _await_health(watch, SERVING)
            lines = [line for line in program.written() if line.get("event") == "readiness_changed"]
            return any("saga.coordinators" in str(line["reasons"]) for line in lines)

        wait_until(is_told_why, "the reason to be told")
    assert client.start("quick", "one", wait=True).status == saga_pb2.SAGA_STATUS_COMPLETED
    watch.cancel()


def _start_until_refused(client: Client, request: StartSagaRequest) -> NoReturn:
    """The lease may not be over yet."""
    while True:
        client.sagas.StartSaga(request, timeout=PATIENCE_SECONDS)


def _await_health(watch: Iterator[health_pb2.HealthCheckResponse], status: int) -> None:
    """The stream's own deadline ends it. On a busy machine a lease of half a second may run out in between."""
    while next(watch).status != status:
        pass
