"""Runs a service: its tables, its gRPC server, health, and a stop that lets calls in flight finish."""

import argparse
import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import grpc
import psycopg
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from saga_client.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_client.v1.participant_service_pb2_grpc import (
    ParticipantServiceServicer,
    add_ParticipantServiceServicer_to_server,
)

from order_fulfilment import guard

Action = Callable[[Connection, ExecuteRequest], guard.Output]
Compensation = Callable[[Connection, CompensateRequest], guard.Output]

# Calls answered at once, and so connections used at once. Postgres allows 100 in all unless told otherwise.
THREADS_MAX = 16
# Calls in flight get this long when the service is told to stop.
STOP_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Database:
    """A service's own tables, in a schema of its own, and the connections to them that are not in use."""

    def __init__(self, database_url: str, schema: str) -> None:
        own = {"options": f"-c search_path={schema}", "application_name": schema}
        self._conninfo = make_conninfo(database_url, **own)
        self._schema = schema
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()

    def create_tables(self, statements: str) -> None:
        with self.connection() as connection, connection.transaction():
            connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(self._schema)))
            connection.execute(guard.SCHEMA)
            connection.execute(statements.encode())

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        try:
            yield connection
        finally:
            if not connection.closed:  # it is when the database has gone away
                self._idle.put(connection)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()


class Participant(ParticipantServiceServicer):
    """Answers `saga.v1.ParticipantService` with a service's operations, by the name of the method."""

    def __init__(
        self, database: Database, actions: Mapping[str, Action], compensations: Mapping[str, Compensation]
    ) -> None:
        self._database = database
        self.actions = actions
        self.compensations = compensations

    def Execute(  # noqa: N802 - named by the contract
        self, request: ExecuteRequest, context: grpc.ServicerContext
    ) -> ExecuteResponse:
        action = self.actions.get(request.method)
        if action is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no action {request.method!r} here")
        with _failures_told(context), self._database.connection() as connection:
            answer = guard.execute(connection, request, action)
        return ExecuteResponse(output=_told(request, answer, context))

    def Compensate(  # noqa: N802 - named by the contract
        self, request: CompensateRequest, context: grpc.ServicerContext
    ) -> CompensateResponse:
        compensation = self.compensations.get(request.method)
        if compensation is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"no compensation {request.method!r} here")
        with _failures_told(context), self._database.connection() as connection:
            answer = guard.compensate(connection, request, compensation)
        return CompensateResponse(output=_told(request, answer, context))


@contextmanager
def _failures_told(context: grpc.ServicerContext) -> Iterator[None]:
    """Gives each failure the status that says what is known: refused for good, or worth another attempt."""
    try:
        yield
    except guard.Refused as refusal:
        context.abort(refusal.code, refusal.message)
    except psycopg.DataError as error:  # no second attempt makes this input storable
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except psycopg.OperationalError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, f"the service's database: {error}")


def _told(
    request: ExecuteRequest | CompensateRequest, answer: guard.Answer, context: grpc.ServicerContext
) -> Value | None:
    """The answer's output, or its status."""
    told = f"{answer.code.name} from memory" if answer.from_memory else answer.code.name
    logger.info("%s key=%s attempt=%d %s", request.method, request.idempotency_key, request.attempt, told)
    if answer.code is not grpc.StatusCode.OK:
        context.abort(answer.code, answer.message)
    return None if answer.output is None else ParseDict(answer.output, Value())


@dataclass(frozen=True, slots=True)
class Server:
    """A participant that answers calls."""

    grpc_server: grpc.Server
    health: health.HealthServicer

    @classmethod
    def start(cls, participant: Participant, address: str) -> "Server":
        """Raises RuntimeError when the address is taken."""
        # Otherwise a second process on the same port would take half of the calls instead of failing.
        options = [("grpc.so_reuseport", 0)]
        server = cls(
            grpc.server(futures.ThreadPoolExecutor(THREADS_MAX), options=options), health.HealthServicer()
        )
        add_ParticipantServiceServicer_to_server(participant, server.grpc_server)
        health_pb2_grpc.add_HealthServicer_to_server(server.health, server.grpc_server)
        server.grpc_server.add_insecure_port(address)
        server.grpc_server.start()
        server.health.set("", health_pb2.HealthCheckResponse.SERVING)
        logger.info("serving at %s", address)
        return server

    def stop(self) -> None:
        """Takes no new calls, and returns once those in flight have been answered."""
        self.health.enter_graceful_shutdown()
        self.grpc_server.stop(STOP_SECONDS).wait()


def run(name: str, tables: str, participant: Callable[[Database], Participant]) -> None:
    """The whole program of one service: its arguments, its tables, and serving until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog=f"python -m order_fulfilment.{name}")
    parser.add_argument("--address", required=True, help="where to listen, as in 127.0.0.1:7301")
    parser.add_argument("--database-url", required=True, help="postgresql://...; gets a schema of its own")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(message)s")

    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    database = Database(arguments.database_url, name)
    try:
        database.create_tables(tables)
        server = Server.start(participant(database), arguments.address)
        stopping.wait()
        server.stop()
    except (psycopg.OperationalError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
    finally:
        database.close()
