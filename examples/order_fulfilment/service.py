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
from typing import Protocol

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
Request = ExecuteRequest | CompensateRequest

# Calls answered at once, and so connections used at once. Postgres allows 100 in all unless told otherwise.
THREADS_MAX = 16
# Calls in flight get this long when the service is told to stop.
STOP_SECONDS = 5.0
# How a service may take part: by the contract, by gRPC methods of its own, or as a worker that dials the coordinator.
SHAPES = ("contract", "plain", "worker")

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


class Participant:
    """A service's operations by name, whichever way its calls come in: every one goes through the guard."""

    def __init__(
        self, database: Database, actions: Mapping[str, Action], compensations: Mapping[str, Compensation]
    ) -> None:
        self._database = database
        self.actions = actions
        self.compensations = compensations

    def execute(self, request: ExecuteRequest) -> guard.Answer:
        """Performs an action. Whatever goes wrong is an answer, but for defects."""
        action = self.actions.get(request.method)
        if action is None:
            return guard.Answer(grpc.StatusCode.UNIMPLEMENTED, f"no action {request.method!r} here")
        return self._answer(request, lambda connection: guard.execute(connection, request, action))

    def compensate(self, request: CompensateRequest) -> guard.Answer:
        """Undoes an action."""
        compensation = self.compensations.get(request.method)
        if compensation is None:
            return guard.Answer(grpc.StatusCode.UNIMPLEMENTED, f"no compensation {request.method!r} here")
        return self._answer(request, lambda connection: guard.compensate(connection, request, compensation))

    def _answer(self, request: Request, work: Callable[[Connection], guard.Answer]) -> guard.Answer:
        """Gives each failure the status that says what is known: refused for good, or worth another attempt."""
        try:
            with self._database.connection() as connection:
                answer = work(connection)
        except guard.Refused as refusal:
            answer = guard.Answer(refusal.code, refusal.message)
        except psycopg.DataError as error:  # no second attempt makes this input storable
            answer = guard.Answer(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except psycopg.OperationalError as error:
            answer = guard.Answer(grpc.StatusCode.UNAVAILABLE, f"the service's database: {error}")
        told = f"{answer.code.name} from memory" if answer.from_memory else answer.code.name
        logger.info("%s key=%s attempt=%d %s", request.method, request.idempotency_key, request.attempt, told)
        return answer


class Contract(ParticipantServiceServicer):
    """Answers `saga.v1.ParticipantService` with a participant's operations, by the name of the method."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant

    def Execute(  # noqa: N802 - named by the contract
        self, request: ExecuteRequest, context: grpc.ServicerContext
    ) -> ExecuteResponse:
        return ExecuteResponse(output=_told(self._participant.execute(request), context))

    def Compensate(  # noqa: N802 - named by the contract
        self, request: CompensateRequest, context: grpc.ServicerContext
    ) -> CompensateResponse:
        return CompensateResponse(output=_told(self._participant.compensate(request), context))


def _told(answer: guard.Answer, context: grpc.ServicerContext) -> Value | None:
    """The answer's output, or its status."""
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
        """Serves a participant by the contract. Raises RuntimeError when the address is taken."""
        return cls.serve(
            address, lambda server: add_ParticipantServiceServicer_to_server(Contract(participant), server)
        )

    @classmethod
    def serve(cls, address: str, add: Callable[[grpc.Server], object]) -> "Server":
        """Serves what `add` adds, and health. Raises RuntimeError when the address is taken."""
        # Otherwise a second process on the same port would take half of the calls instead of failing.
        options = [("grpc.so_reuseport", 0)]
        server = cls(
            grpc.server(futures.ThreadPoolExecutor(THREADS_MAX), options=options), health.HealthServicer()
        )
        add(server.grpc_server)
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


class Running(Protocol):
    """A participant that takes part, in whichever shape."""

    def stop(self) -> None:
        """Takes nothing new, and returns once what is under way has been answered."""


def run(name: str, tables: str, participant: Callable[[Database], Participant]) -> None:
    """The whole program of one service: its arguments, its tables, and taking part until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog=f"python -m order_fulfilment.{name}")
    parser.add_argument("--address", required=True, help="where to listen, as in 127.0.0.1:7301")
    parser.add_argument("--database-url", required=True, help="postgresql://...; gets a schema of its own")
    parser.add_argument("--shape", choices=SHAPES, default="contract", help="how it takes part in sagas")
    parser.add_argument("--coordinator", default="127.0.0.1:7242", help="whom a worker dials")
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
        running = _start(name, participant(database), arguments)
        stopping.wait()
        running.stop()
    except (psycopg.OperationalError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
    finally:
        database.close()


def _start(name: str, participant: Participant, arguments: argparse.Namespace) -> Running:
    match arguments.shape:
        case "plain":
            from order_fulfilment.plain import serve_plainly  # noqa: PLC0415 - the other shapes do without

            return serve_plainly(name, participant, arguments.address)
        case "worker":
            from order_fulfilment.worker import Dialling  # noqa: PLC0415

            return Dialling.start(name, participant, arguments.coordinator, arguments.address)
        case _:
            return Server.start(participant, arguments.address)
