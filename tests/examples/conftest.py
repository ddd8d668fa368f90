"""The example as a user runs it: `examples/` is the folder that its package is imported from."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import grpc
import pytest
from order_fulfilment import inventory, payments, service, shipping
from saga_client.v1.participant_service_pb2_grpc import ParticipantServiceStub

TABLES = {"inventory": inventory.TABLES, "payments": payments.TABLES, "shipping": shipping.TABLES}
PARTICIPANTS = {
    "inventory": inventory.inventory,
    "payments": payments.payments,
    "shipping": shipping.shipping,
}
Connect = Callable[[str], ParticipantServiceStub]


@contextmanager
def serving(name: str, dsn: str, address: str) -> Iterator[ParticipantServiceStub]:
    """A participant on real gRPC and real tables, in this process."""
    database = service.Database(dsn, name)
    database.create_tables(TABLES[name])
    server = service.Server.start(PARTICIPANTS[name](database), address)
    try:
        with grpc.insecure_channel(address) as channel:
            yield ParticipantServiceStub(channel)
    finally:
        server.stop()
        database.close()


@pytest.fixture
def connect(empty_database_dsn: str, tmp_path: Path) -> Iterator[Connect]:
    """Starts the named participant and connects to it."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(serving(name, empty_database_dsn, f"unix:{tmp_path}/{name}"))
