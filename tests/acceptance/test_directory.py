"""The directory at running coordinators: put, seen by all, used without a restart, and its breakers set by hand."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict, ParseDict

from saga_coordinator.pb.saga.v1 import participant_service_pb2, saga_pb2
from saga_coordinator.pb.saga.v1.directory_service_pb2 import (
    DeleteParticipantRequest,
    GetParticipantRequest,
    ListParticipantsRequest,
    Participant,
    PutParticipantRequest,
    SetBreakerRequest,
)
from saga_coordinator.pb.saga.v1.directory_service_pb2_grpc import DirectoryServiceStub
from tests.acceptance.conftest import Client, Shop, StartServing, participant
from tests.acceptance.test_rpc import pages_of
from tests.eventually import PATIENCE_SECONDS, wait_until

DESCRIBED = FileDescriptorSet()
for each in (struct_pb2.DESCRIPTOR, saga_pb2.DESCRIPTOR, participant_service_pb2.DESCRIPTOR):
    each.CopyToProto(DESCRIBED.file.add())
"""What the shop serves, which does not say so itself."""
CALL = {
    "participant": "described",
    "method": "saga.v1.ParticipantService/Execute",
    "input": {"method": "quick", "step": "by hand"},
}
PLAIN = {"name": "plain", "steps": [{"name": "call", "read_only": True, "action": CALL}]}
Connect = Callable[[str], Client]
COMPLETED = saga_pb2.SAGA_STATUS_COMPLETED


class Directory:
    """The service of one coordinator."""

    def __init__(self, client: Client) -> None:
        self.stub = DirectoryServiceStub(client.channel)

    def put(self, name: str, **fields: Any) -> bool:
        request = PutParticipantRequest(participant=ParseDict({"name": name, **fields}, Participant()))
        return self.stub.PutParticipant(request, timeout=PATIENCE_SECONDS).created

    def get(self, name: str) -> dict[str, Any]:
        answer = self.stub.GetParticipant(GetParticipantRequest(name=name), timeout=PATIENCE_SECONDS)
        return MessageToDict(answer.status, preserving_proto_field_name=True)

    def set_breaker(self, name: str, control: str) -> None:
        fields = {
            "participant": name,
            "control": f"BREAKER_CONTROL_{control}",
            "requested_by": "ana",
            "reason": "maintenance",
        }
        self.stub.SetBreaker(ParseDict(fields, SetBreakerRequest()), timeout=PATIENCE_SECONDS)


def faults(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return f"{caught.value.code().name}: {caught.value.details()}"


@pytest.fixture
def two(serving: StartServing, connect: Connect) -> tuple[Client, Client]:
    """Two coordinators without a participants file, on one database."""
    first, second = serving(), serving()
    return connect(first.address), connect(second.address)


def test_what_is_put_at_one_coordinator_is_used_by_all(
    two: tuple[Client, Client], shop: Shop, shop_server: tuple[Shop, str]
) -> None:
    here, there = two
    _, address = shop_server
    directory, other = Directory(here), Directory(there)
    assert directory.put("shop", target=address, limits={"concurrency": 32, "rate": 500})
    here.register("orders", "quick")
    # At once: who does not know a name looks for it before a start is refused.
    assert there.start("orders", "b", wait=True).status == COMPLETED
    assert here.start("orders", "a", wait=True).status == COMPLETED
    status = other.get("shop")
    assert status["source"] == "PARTICIPANT_SOURCE_API"
    assert status["participant"]["limits"]["concurrency"] == 32
    assert status["participant"]["limits"]["breaker"]["failure_ratio"] == 0.8
    assert (status["breaker"], status["connectivity"]) == ("BREAKER_STATE_CLOSED", "READY")
    assert (status["last_outcome"], status["calls_in_window"]) == ("SUCCEEDED", 1)

    assert not directory.put("shop", target=address)
    directory.put("described", target=address, descriptor_set=base64.b64encode(DESCRIBED.SerializeToString()))
    wait_until(lambda: "described" in names(other), "the participant with a descriptor set")
    there.define(PLAIN)
    assert MessageToDict(there.start("plain", wait=True).steps[0].output)["output"] == {"done": "by hand"}

    other.stub.DeleteParticipant(DeleteParticipantRequest(name="shop"), timeout=PATIENCE_SECONDS)
    wait_until(lambda: "shop" not in names(directory), "the deletion")
    assert faults(lambda: directory.get("shop")).startswith("NOT_FOUND: no participant `shop`")


def test_the_usual_timeouts_and_retries_are_those_of_what_is_registered_from_then_on(
    serving: StartServing, connect: Connect, shop: Shop, shop_server: tuple[Shop, str]
) -> None:
    client = connect(serving().address)
    directory = Directory(client)
    told = faults(lambda: directory.put("shop", target=shop_server[1], defaults={"timeout": "9999s"}))
    assert "participant.defaults.timeout: " in told
    usual = {"timeout": "3s", "retry": {"max_attempts": 2, "initial_backoff": "0.010s"}}
    directory.put("shop", target=shop_server[1], defaults=usual)
    assert directory.get("shop")["participant"]["defaults"] == usual
    client.register("orders", "away")
    directory.put("shop", target=shop_server[1], defaults={"retry": {"max_attempts": 1}})
    assert client.start("orders", wait=True).steps[0].attempt == 1  # of its compensation
    assert [call.attempt for call in list(shop.called.queue)] == [1, 2, 1]
    client.register("orders", "away")
    client.start("orders", "b", wait=True)
    assert [call.attempt for call in list(shop.called.queue)][3:] == [1, 1]


def names(directory: Directory) -> list[str]:
    answer = directory.stub.ListParticipants(ListParticipantsRequest(), timeout=PATIENCE_SECONDS)
    return [status.participant.name for status in answer.statuses]


def test_pages_have_every_participant_once(serving: StartServing, connect: Connect) -> None:
    directory = Directory(connect(serving().address))
    put = [f"p{number:02}" for number in range(7)]
    for name in put:
        directory.put(name, worker=True)
    pages = pages_of(directory.stub.ListParticipants, ListParticipantsRequest(page_size=3))
    assert [status.participant.name for page in pages for status in page.statuses] == put


def test_every_fault_is_told_with_its_place(serving: StartServing, connect: Connect) -> None:
    directory = Directory(connect(serving().address))
    told = faults(
        lambda: directory.put(
            "Shop",
            target="shop",
            tls={"ca_file": "ca.pem"},
            limits={"burst": 3, "breaker": {"failure_ratio": 2, "rest": "5s", "rest_max": "1s"}},
            descriptor_set="bm8=",
        )
    )
    assert told.startswith("INVALID_ARGUMENT: 7 faults: ")
    for place in (
        "participant.name: is not a name",
        "participant.target: `shop` is not a host and a port",
        "participant.tls.ca_file: `ca.pem` must be an absolute path",
        "participant.limits.burst: needs a rate",
        "participant.limits.breaker.failure_ratio: is 2",
        "participant.limits.breaker.rest_max: is less than rest",
    ):
        assert place in told
    assert "participant.target: `unix:shop.sock` must name" in faults(
        lambda: directory.put("shop", target="unix:shop.sock")
    )
    assert names(directory) == []


def test_the_file_has_precedence(
    serving: StartServing,
    connect: Connect,
    participants_file: Path,
    shop: Shop,
    shop_server: tuple[Shop, str],
) -> None:
    without_file = Directory(connect(serving().address))
    without_file.put("shop", target="127.0.0.1:1")  # nobody is there
    client = connect(serving("--participants", participants_file).address)
    with_file = Directory(client)
    status = with_file.get("shop")
    assert (status["source"], status["participant"]["target"]) == ("PARTICIPANT_SOURCE_FILE", shop_server[1])
    assert f"FAILED_PRECONDITION: the participants file {participants_file} has `shop`" in faults(
        lambda: with_file.put("shop", target="127.0.0.1:2")
    )
    client.register("orders", "quick")
    assert client.start("orders", "a", wait=True).status == COMPLETED


def test_a_breaker_set_by_hand_holds_everywhere_and_after_a_restart(
    serving: StartServing, connect: Connect, participants_file: Path, shop: Shop
) -> None:
    flags = ("--participants", participants_file)
    here, there = connect(serving(*flags).address), connect(serving(*flags).address)
    Directory(here).set_breaker("shop", "OPEN")
    wait_until(
        lambda: Directory(there).get("shop")["breaker"] == "BREAKER_STATE_OPEN", "the breaker at the other"
    )
    later = connect(serving(*flags).address)
    here.register("orders", "quick")
    waiting = [
        client.start("orders", key).saga_id for key, client in zip("abc", (here, there, later), strict=True)
    ]
    wait_until(lambda: all(is_held(here.saga(each)) for each in waiting), "the reason on every step")
    assert shop.called.empty()
    setting = Directory(later).get("shop")["breaker_setting"]
    assert (setting["control"], setting["requested_by"], setting["reason"]) == (
        "BREAKER_CONTROL_OPEN",
        "ana",
        "maintenance",
    )
    Directory(later).set_breaker("shop", "AUTOMATIC")
    for client in (here, there, later):
        wait_until(
            lambda at=client: Directory(at).get("shop")["breaker"] == "BREAKER_STATE_CLOSED",  # type: ignore[misc]
            "the breaker as before",
        )
        assert client.start("orders", f"after {id(client)}", wait=True).status == COMPLETED


def is_held(found: saga_pb2.Saga) -> bool:
    (step,) = found.steps
    return step.cause.code == "CIRCUIT_OPEN" and step.HasField("retry_at")


def test_setting_a_breaker_needs_a_name_a_control_and_a_reason(
    serving: StartServing, connect: Connect
) -> None:
    directory = Directory(connect(serving().address))
    told = faults(
        lambda: directory.stub.SetBreaker(SetBreakerRequest(participant="Shop"), timeout=PATIENCE_SECONDS)
    )
    for place in ("participant: is not a name", "control: must be one of", "reason: is required"):
        assert place in told


def test_a_participant_that_moves_under_load_loses_nothing(serving: StartServing, connect: Connect) -> None:
    """Calls in flight end where they are; new ones go to the new address."""
    client = connect(serving().address)
    directory = Directory(client)
    shops = Shop(), Shop()
    client.register("orders", "quick", "quick")
    with (
        participant(shops[0]) as before,
        participant(shops[1]) as after,
        futures.ThreadPoolExecutor(8) as pool,
    ):
        directory.put("shop", target=before)
        started = [pool.submit(client.start, "orders", str(number), wait=True) for number in range(100)]
        shops[0].called.get(timeout=PATIENCE_SECONDS)
        directory.put("shop", target=after)
        started += [pool.submit(client.start, "orders", str(number), wait=True) for number in range(100, 200)]
        ended = [each.result() for each in started]
    assert {each.status for each in ended} == {COMPLETED}
    calls = [shop.called.qsize() for shop in shops]
    assert sum(calls) + 1 == 400
    assert calls[1] >= 200


def test_a_participant_whose_name_has_no_address_waits_and_goes_on_when_it_is_put_right(
    serving: StartServing, connect: Connect, shop: Shop, shop_server: tuple[Shop, str]
) -> None:
    client = connect(serving().address)
    directory = Directory(client)
    directory.put("shop", target="dns:///nowhere.invalid:50051")
    client.register("orders", "quick")
    saga_id = client.start("orders").saga_id

    def has_failed() -> bool:
        (step,) = client.saga(saga_id).steps
        return bool(step.cause.code == "UNAVAILABLE")

    wait_until(has_failed, "the failure")
    assert directory.get("shop")["last_failure"]["code"] == "UNAVAILABLE"
    directory.put("shop", target=shop_server[1])
    wait_until(lambda: client.saga(saga_id).status == COMPLETED, "the saga's end")
