"""The participant that the client's README shows does what the text says."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from order_fulfilment.processes import CHANNEL_OPTIONS
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest
from saga_client.v1.participant_service_pb2_grpc import ParticipantServiceStub

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "python"
PARTICIPANT, STARTER = re.findall(
    r"```python\n(.*?)```", (CLIENT / "README.md").read_text("utf-8"), re.DOTALL
)


def execute_request(amount_cents: int) -> ExecuteRequest:
    order = {"order_id": "A-17", "amount_cents": amount_cents}
    return ExecuteRequest(idempotency_key=f"charge {amount_cents}", input=ParseDict(order, Value()))


def test_the_participant_charges_refuses_and_refunds() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", PARTICIPANT.replace("50052", str(port))], cwd=CLIENT)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
            participant = ParticipantServiceStub(channel)
            output = MessageToDict(participant.Execute(execute_request(4_200), timeout=30).output)
            assert output == {"charge_id": "charge-A-17"}
            with pytest.raises(grpc.RpcError) as refusal:
                participant.Execute(execute_request(200_000), timeout=30)
            assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            participant.Compensate(CompensateRequest(action_idempotency_key="charge 4200"), timeout=30)
            with pytest.raises(grpc.RpcError) as nothing:
                participant.Compensate(CompensateRequest(action_idempotency_key="charge 4200"), timeout=30)
            assert nothing.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        process.kill()
        process.wait()


def test_the_starter_compiles() -> None:
    compile(STARTER, "README.md", "exec")
