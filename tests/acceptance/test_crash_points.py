"""kill -9 at named points of one saga's life: another coordinator ends the saga, and the books are right each time (P1, P2, P5).

The participants are the example's, which guard their keys, with their own tables; the coordinator is the ordinary program, made
to kill itself there (`torture.crashing`). The caller repeats its start with the same key, as callers do.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import psycopg
import pytest

from saga_coordinator.config import read_documents
from saga_coordinator.pb.saga.v1 import saga_pb2
from tests.acceptance.conftest import ROOT, Client, StartServing
from tests.eventually import PATIENCE_SECONDS
from tests.examples.conftest import PARTICIPANTS
from tests.examples.conftest import serving as participant

from order_fulfilment.books import find_faults, read_books  # isort: skip  # examples/ is on the path only now
from order_fulfilment.orders import GOOD_CARD, one_order  # isort: skip
from order_fulfilment.payments import DECLINED_CARD  # isort: skip

pytestmark = pytest.mark.proof

LEASE_SECONDS = "0.5"

FORWARD = (
    "before commit of start:1",
    "after commit of start:1",
    "before call of action:2",
    "after call of action:2",
    "before commit of action outcome:2",
    "after commit of action outcome:2",
    "before commit of end:1",
    "after commit of end:1",
)
BACK = (
    "before commit of turn:1",
    "after commit of compensation intent:1",
    "after call of compensation:1",
    "before commit of compensation outcome:1",
    "after commit of compensation outcome:1",
)


@pytest.fixture
def flags(empty_database_dsn: str, tmp_path: Path) -> Iterator[list[str]]:
    """Those of a coordinator that knows the three services, which are running."""
    with ExitStack() as stack:
        lines = []
        for name in PARTICIPANTS:
            stack.enter_context(participant(name, empty_database_dsn, f"unix:{tmp_path}/{name}"))
            lines.append(f'  {name}: {{target: "unix:{tmp_path}/{name}"}}\n')
        file = tmp_path / "participants.yaml"
        file.write_text("participants:\n" + "".join(lines))
        yield ["--participants", str(file), "--lease-seconds", LEASE_SECONDS]


@pytest.mark.parametrize("point", [*FORWARD, *BACK])
def test_p1_a_killed_coordinators_saga_ends_and_the_books_are_right(
    point: str,
    flags: list[str],
    database_dsn: str,
    empty_database_dsn: str,
    serving: StartServing,
    connect: Callable[[str], Client],
    tmp_path: Path,
) -> None:
    card, end = (GOOD_CARD, "COMPLETED") if point in FORWARD else (DECLINED_CARD, "COMPENSATED")
    order = ("order-fulfilment", "1", one_order("1", card).input)
    survivor = connect(serving(*flags).address)
    spec = read_documents(ROOT / "examples/order_fulfilment/definition.yaml")[0].content
    survivor.define(spec)
    address = f"unix:{tmp_path}/doomed"
    environment = {
        **os.environ,
        "TORTURE_CRASH_AT": point,
        "SAGA_DATABASE_URL": database_dsn,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "proof.torture.crashing", "serve", "--address", address, *flags]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL) as doomed:
        client = connect(address)
        grpc.channel_ready_future(client.channel).result(PATIENCE_SECONDS)
        with contextlib.suppress(grpc.RpcError):  # the answer may have gone out before the end
            client.start_now(*order, wait=True)
        assert doomed.wait(PATIENCE_SECONDS) == -signal.SIGKILL

    saga = survivor.start(*order, wait=True)

    assert saga_pb2.SagaStatus.Name(saga.status) == f"SAGA_STATUS_{end}"
    with psycopg.connect(empty_database_dsn) as connection:
        assert find_faults(read_books(connection), {"1": one_order("1", card)}, {"1": end}) == []
