"""The example as a user runs it: `examples/` is the folder that its package is imported from."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import grpc
import grpc_testing
import pytest
from order_fulfilment import inventory, payments, service, shipping
from saga_client.v1 import participant_service_pb2
from saga_client.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_client.v1.participant_service_pb2_grpc import ParticipantServiceServicer, ParticipantServiceStub

TABLES = {"inventory": inventory.TABLES, "payments": payments.TABLES, "shipping": shipping.TABLES}
PARTICIPANTS = {
    "inventory": inventory.inventory,
    "payments": payments.payments,
    "shipping": shipping.shipping,
}
Connect = Callable[[str], ParticipantServiceStub]


class NotOk(grpc.RpcError):
    """A call that ended with another status than OK."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code = code
        self._details = details
        super().__init__(f"{code.name}: {details}")

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class Spoken:
    """A participant's own servicer, called as gRPC calls it, with neither a connection nor a server in between."""

    SERVICE = participant_service_pb2.DESCRIPTOR.services_by_name["ParticipantService"]

    def __init__(self, servicer: ParticipantServiceServicer) -> None:
        time = grpc_testing.strict_real_time()
        self._server = grpc_testing.server_from_dictionary({self.SERVICE: servicer}, time)

    def Execute(self, request: ExecuteRequest, timeout: float) -> ExecuteResponse:  # noqa: N802 - as the stub's
        answer: ExecuteResponse = self._call("Execute", request, timeout)
        return answer

    def Compensate(self, request: CompensateRequest, timeout: float) -> CompensateResponse:  # noqa: N802
        answer: CompensateResponse = self._call("Compensate", request, timeout)
        return answer

    def _call(self, method: str, request: Any, timeout: float) -> Any:
        described = self.SERVICE.methods_by_name[method]
        response, _, code, details = self._server.invoke_unary_unary(
            described, (), request, timeout
        ).termination()
        if code is not grpc.StatusCode.OK:
            raise NotOk(code, details)
        return response


Speak = Callable[[str], Spoken]


@contextmanager
def participant(name: str, dsn: str) -> Iterator[service.Participant]:
    """A participant on real tables."""
    database = service.Database(dsn, name)
    database.create_tables(TABLES[name])
    try:
        yield PARTICIPANTS[name](database)
    finally:
        database.close()


@contextmanager
def serving(name: str, dsn: str, address: str) -> Iterator[ParticipantServiceStub]:
    """A participant on real gRPC and real tables, in this process."""
    with participant(name, dsn) as served:
        server = service.Server.start(served, address)
        try:
            with grpc.insecure_channel(address) as channel:
                yield ParticipantServiceStub(channel)
        finally:
            server.stop()


@pytest.fixture
def speak(empty_database_dsn: str) -> Iterator[Speak]:
    """Makes the named participant, to be called without a server."""
    with ExitStack() as stack:

        def make(name: str) -> Spoken:
            return Spoken(service.Contract(stack.enter_context(participant(name, empty_database_dsn))))

        yield make


@pytest.fixture
def connect(empty_database_dsn: str, tmp_path: Path) -> Iterator[Connect]:
    """Starts the named participant and connects to it."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(serving(name, empty_database_dsn, f"unix:{tmp_path}/{name}"))
