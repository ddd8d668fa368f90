"""How long a participant asks to be left alone, in each of the ways that there are to say it."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from saga_coordinator.pb.saga.v1.worker_service_pb2 import TaskOutcome
from saga_coordinator.saga.words.outcome import Cause, OutcomeKind, Refused, Unknown, reclassified
from saga_coordinator.wire.not_before import SECONDS_MAX, duration_asked, pause_asked
from saga_coordinator.wire.outcomes import outcome_of, write_outcome

BUSY = Cause("RESOURCE_EXHAUSTED", "busy")


def details(*messages: Message) -> bytes:
    status = Status(code=8, message="quota")
    for message in messages:
        packed = AnyMessage()
        packed.Pack(message)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def retry_in(seconds: int, nanos: int = 0) -> RetryInfo:
    return RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))


@pytest.mark.parametrize(
    ("key", "value", "seconds"),
    [
        ("saga-retry-after", "2.5", 2.5),
        ("saga-retry-after", "soon", 0.0),
        ("saga-retry-after", "-1", 0.0),
        ("saga-retry-after", "nan", 0.0),
        ("saga-retry-after", "1e9", SECONDS_MAX),
        ("grpc-retry-pushback-ms", "2000", 2.0),
        ("grpc-retry-pushback-ms", "-1", 0.0),
        ("grpc-retry-pushback-ms", "now", 0.0),
        ("grpc-status-details-bin", details(retry_in(2)), 2.0),
        ("grpc-status-details-bin", details(ErrorInfo(reason="QUOTA"), retry_in(1, 500_000_000)), 1.5),
        ("grpc-status-details-bin", details(retry_in(10**10)), SECONDS_MAX),
        ("grpc-status-details-bin", details(retry_in(-5)), 0.0),
        ("grpc-status-details-bin", details(), 0.0),
        ("grpc-status-details-bin", b"\xff\xff", 0.0),
        ("x-retry-after", "9", 0.0),
    ],
)
def test_each_way_to_say_it(key: str, value: str | bytes, seconds: float) -> None:
    assert pause_asked([("content-type", "application/grpc"), (key, value)]) == seconds


def test_the_longest_counts() -> None:
    said = [("saga-retry-after", "1"), ("grpc-retry-pushback-ms", "3000")]
    assert pause_asked([*said, ("grpc-status-details-bin", details(retry_in(2)))]) == 3.0
    assert pause_asked(None) == pause_asked([]) == 0.0


def test_a_details_message_that_lies_about_its_type_asks_for_nothing() -> None:
    status = Status(details=[AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")])
    assert pause_asked([("grpc-status-details-bin", status.SerializeToString())]) == 0.0


@pytest.mark.parametrize(
    "outcome", [Unknown(BUSY, 2.5), Refused(BUSY, retry_after_seconds=2.5), Unknown(BUSY)]
)
def test_a_task_forwarded_by_another_coordinator_keeps_it(outcome: Unknown | Refused) -> None:
    message = TaskOutcome()
    write_outcome(message, outcome)
    assert outcome_of(message, payload_bytes_max=1000) == outcome


def test_a_refusal_that_the_definition_takes_for_unknown_keeps_it() -> None:
    refused = Refused(Cause("NOT_FOUND", "not yet"), retry_after_seconds=7.0)
    assert reclassified(refused, {"NOT_FOUND": OutcomeKind.UNKNOWN}) == Unknown(refused.cause, 7.0)


def test_a_duration_is_bounded_as_a_trailer_is() -> None:
    assert duration_asked(Duration(seconds=2, nanos=500_000_000)) == 2.5
    assert duration_asked(Duration(seconds=-2)) == duration_asked(Duration()) == 0.0
    assert duration_asked(Duration(seconds=10**12)) == SECONDS_MAX
