"""Messages as plain values and back; comments; statuses in words."""

from __future__ import annotations

import json
import math
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from saga_coordinator.api.definition_service import DESCRIPTOR as DEFINITION_SERVICE
from saga_coordinator.api.directory_service import DESCRIPTOR as DIRECTORY_SERVICE
from saga_coordinator.api.reflection import PublicPool
from saga_coordinator.api.saga_service import DESCRIPTOR as SAGA_SERVICE
from saga_coordinator.pb.saga.v1 import (
    definition_pb2,
    directory_service_pb2,
    saga_pb2,
)
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.json_names import json_form
from sagactl.contract.contract import Contract
from sagactl.contract.plain import message_from, plain_of
from sagactl.contract.sources import File
from sagactl.contract.statuses import Answered
from sagactl.endings import Denied, Lacking, NotFound, Refused, Unavailable, WrongUsage


class OfTheServer:
    """What the server's own reflection would send, without a server."""

    NAMES = (SAGA_SERVICE.full_name, DEFINITION_SERVICE.full_name, DIRECTORY_SERVICE.full_name)

    def __init__(self) -> None:
        self._pool = PublicPool(self.NAMES)

    def services(self) -> list[str]:
        return sorted(self.NAMES)

    def files_with(self, symbol: str) -> list[File]:
        try:
            return [self._sent(self._pool.FindFileContainingSymbol(symbol))]
        except KeyError:
            return []

    def file(self, name: str) -> File | None:
        return self._sent(self._pool.FindFileByName(name))

    def _sent(self, file: Any) -> File:
        sent = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(sent)
        return sent


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Contract(OfTheServer())


def in_contract(message: Any, contract: Contract) -> Any:
    """The message as the program has it: of classes made from what the server describes."""
    described: Any = contract.symbol(message.DESCRIPTOR.full_name)
    return contract.message_class(described).FromString(message.SerializeToString())


DEFINITION = {
    "name": "order",
    "deadline": "300s",
    "steps": [
        {"name": "a", "use": "shop.reserve"},
        {
            "name": "each",
            "for_each": {"items": "${input.lines}", "as": "line", "steps": [{"name": "b", "delay": "1.5s"}]},
        },
        {
            "name": "c",
            "action": {
                "participant": "p",
                "input": {"n": 3, "x": 0.5, "null": None},
                "retry": {"multiplier": 2},
            },
        },
    ],
    "labels": {"b": "2", "a": "1"},
}


def test_definitions_look_as_the_server_writes_them(contract: Contract) -> None:
    """Also where the contract says another name for JSON: `use`, `as`."""
    message = json_format.ParseDict(DEFINITION, definition_pb2.Definition())
    plain = plain_of(in_contract(message, contract), contract)
    assert json.loads(json.dumps(plain)) == json_form(message)
    descriptor: Any = contract.symbol("saga.v1.Definition")
    assert message_from(plain, descriptor, contract).SerializeToString(
        deterministic=True
    ) == message.SerializeToString(deterministic=True)


def test_numbers_that_readers_would_round_are_texts(contract: Contract) -> None:
    status = directory_service_pb2.ParticipantStatus(held=2**60, failure_ratio=math.nan)
    plain = plain_of(in_contract(status, contract), contract)
    assert plain == {"held": str(2**60), "failure_ratio": "NaN"}


def test_fields_that_are_empty_are_there_where_programs_read_them(contract: Contract) -> None:
    plain = plain_of(in_contract(saga_pb2.Saga(saga_id="s"), contract), contract, defaults=True)
    assert (plain["status"], plain["steps"], plain["labels"], plain["outputs_omitted"]) == (
        "SAGA_STATUS_UNSPECIFIED",
        [],
        {},
        False,
    )
    assert "failure" not in plain


def test_what_a_message_does_not_take_is_told_with_what_it_takes(contract: Contract) -> None:
    descriptor: Any = contract.symbol("GetSagaRequest")
    with pytest.raises(WrongUsage, match=r"start_keys.*it takes: saga_id, start_key"):
        message_from({"start_keys": 1}, descriptor, contract)


def test_names_are_found_however_they_are_written(contract: Contract) -> None:
    for written in (
        "saga.v1.SagaService/GetSaga",
        "saga.v1.SagaService.GetSaga",
        "SagaService/GetSaga",
        "GetSaga",
    ):
        assert contract.method(written).full_name == "saga.v1.SagaService.GetSaga"
    for written in ("StartSaga", "SagaService.StartSaga", "saga.v1.SagaService/StartSaga"):
        assert contract.symbol(written).full_name == "saga.v1.SagaService.StartSaga"
    with pytest.raises(Lacking, match="did you mean"):
        contract.method("GetSagas")
    with pytest.raises(NotFound):
        contract.symbol("Nonsense")
    assert contract.maybe_method("saga.v1.SagaService/Nonsense") is None


def test_comments_are_those_of_the_contract(contract: Contract) -> None:
    assert contract.comment(contract.symbol("StartSaga")).startswith(
        "Starts a saga. It answers once the start is durable."
    )
    assert contract.comment(contract.symbol("Saga.saga_id")) == "A UUIDv7: identities sort by time of start."
    status: Any = contract.symbol("SagaStatus")
    assert contract.value_comment(status, "SAGA_STATUS_COMPLETED") == "Every step took effect."


class Failed(grpc.RpcError):
    """A call that failed with these details."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Any) -> None:
        self._code, self._message = code, message
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        self._status = status_pb2.Status(
            code=code.value[0], message=message, details=packed
        ).SerializeToString()

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> Any:
        return [("grpc-status-details-bin", self._status)]


def test_every_fault_of_a_request_is_told() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="labels.a", description="is too long")
    bad.field_violations.add(description="and 3 more")
    problem = Answered(Failed(grpc.StatusCode.INVALID_ARGUMENT, "2 faults", bad)).problem("StartSaga")
    assert isinstance(problem, Refused)
    assert problem.lines == ("labels.a: is too long", "and 3 more")


def test_the_reason_and_when_to_repeat_are_told() -> None:
    info = error_details_pb2.ErrorInfo(reason=Reason.OVERLOADED, metadata={"saga_id": "s"})
    again = error_details_pb2.RetryInfo()
    again.retry_delay.FromMilliseconds(1500)
    answered = Answered(Failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much waits", info, again))
    assert answered.retry_after_seconds == 1.5
    problem = answered.problem("StartSaga")
    assert isinstance(problem, Unavailable)
    assert problem.lines == ("too much waits (OVERLOADED)", "the server says: repeat it in 1.5 s")
    assert problem.details["metadata"] == {"saga_id": "s"}


def test_details_that_nobody_here_knows_are_not_dropped() -> None:
    odd = error_details_pb2.Help()
    problem = Answered(
        Failed(grpc.StatusCode.PERMISSION_DENIED, "no", odd, saga_pb2.Cause(code="x"))
    ).problem("GetSaga")
    assert isinstance(problem, Denied)
    assert "saga.v1.Cause: 3 bytes" in problem.lines[-1]
    assert any("google.rpc.Help" in line for line in problem.lines)
