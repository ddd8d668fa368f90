"""The programs that the client's README shows do what the text says."""

import re
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import grpc_testing
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from order_fulfilment.processes import CHANNEL_OPTIONS
from saga_client.v1 import saga_pb2, saga_service_pb2
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest
from saga_client.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.examples.conftest import Spoken

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "python"
PARTICIPANT, STARTER = re.findall(
    r"```python\n(.*?)```", (CLIENT / "README.md").read_text("utf-8"), re.DOTALL
)
SERVICER, _, _ = PARTICIPANT.partition("server = ")
SAGA_SERVICE = saga_service_pb2.DESCRIPTOR.services_by_name["SagaService"]


def execute_request(amount_cents: int) -> ExecuteRequest:
    order = {"order_id": "A-17", "amount_cents": amount_cents}
    return ExecuteRequest(idempotency_key=f"charge {amount_cents}", input=ParseDict(order, Value()))


@pytest.fixture
def payments() -> Spoken:
    """The participant, as far as the text has it before it is served."""
    names: dict[str, Any] = {}
    exec(SERVICER, names)  # noqa: S102 - the program is ours
    return Spoken(names["Payments"]())


def test_the_participant_charges_once(payments: Spoken) -> None:
    for _ in range(2):
        output = MessageToDict(payments.Execute(execute_request(4_200), timeout=30).output)
        assert output == {"charge_id": "charge-A-17"}


def test_the_participant_refuses_what_is_over_the_limit(payments: Spoken) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        payments.Execute(execute_request(200_000), timeout=30)
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.value.details() == "card declined: over the limit"


def test_the_participant_refunds_what_it_charged_and_nothing_else(payments: Spoken) -> None:
    undo = CompensateRequest(action_idempotency_key="charge 4200")
    payments.Execute(execute_request(4_200), timeout=30)
    payments.Compensate(undo, timeout=30)
    with pytest.raises(grpc.RpcError) as nothing:
        payments.Compensate(undo, timeout=30)
    assert nothing.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_participant_serves() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", PARTICIPANT.replace("50052", str(port))], cwd=CLIENT)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            answer = ParticipantServiceStub(channel).Execute(
                execute_request(4_200), timeout=30, wait_for_ready=True
            )
            assert MessageToDict(answer.output) == {"charge_id": "charge-A-17"}
    finally:
        process.kill()
        process.wait()


class Starter:
    """The program that starts a saga, with a coordinator that the test speaks for."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.channel = grpc_testing.channel([SAGA_SERVICE], grpc_testing.strict_real_time())
        self.printed = StringIO()
        self.ended: Future[None] = threads.submit(self._run)
        method = SAGA_SERVICE.methods_by_name["StartSaga"]
        _, self.request, self.call = self.channel.take_unary_unary(method)

    def _run(self) -> None:
        with patch("grpc.insecure_channel", return_value=self.channel), redirect_stdout(self.printed):
            exec(STARTER, {})  # noqa: S102 - the program is ours

    def answer(self, saga: saga_pb2.Saga) -> None:
        response = saga_service_pb2.StartSagaResponse(saga=saga, created=True)
        self.call.terminate(response, (), grpc.StatusCode.OK, "")
        self.ended.result(30)

    def refuse(self, code: grpc.StatusCode, details: str) -> None:
        self.call.terminate(None, (), code, details)


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(1) as started:
        yield started


def test_the_starter_starts_a_saga_and_waits_for_it(threads: ThreadPoolExecutor) -> None:
    starter = Starter(threads)
    request: saga_service_pb2.StartSagaRequest = starter.request
    assert (request.definition, request.start_key, request.wait) == ("order-fulfilment", "A-17", True)
    assert MessageToDict(request.input) == {"order_id": "A-17", "amount_cents": 4_200}
    starter.answer(saga_pb2.Saga(status=saga_pb2.SAGA_STATUS_COMPLETED))
    assert starter.printed.getvalue().strip() == "SAGA_STATUS_COMPLETED"


def test_the_starter_says_why_a_saga_was_undone(threads: ThreadPoolExecutor) -> None:
    starter = Starter(threads)
    failure = saga_pb2.Cause(code="FAILED_PRECONDITION", message="card declined: over the limit")
    starter.answer(saga_pb2.Saga(status=saga_pb2.SAGA_STATUS_COMPENSATED, failure=failure))
    assert starter.printed.getvalue().strip() == "SAGA_STATUS_COMPENSATED card declined: over the limit"


def test_the_starter_hears_of_a_refusal(threads: ThreadPoolExecutor) -> None:
    starter = Starter(threads)
    starter.refuse(grpc.StatusCode.NOT_FOUND, "there is no definition `order-fulfilment`")
    with pytest.raises(grpc.RpcError) as refusal:
        starter.ended.result(30)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert refusal.value.details() == "there is no definition `order-fulfilment`"
