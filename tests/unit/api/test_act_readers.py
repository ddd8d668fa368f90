"""Every fault of a request for an act is told at once, those of what the caller says of it among them."""

from collections.abc import Callable
from typing import Any

import pytest

from saga_coordinator.api import definition_readers, directory_readers
from saga_coordinator.pb.saga.v1 import definition_service_pb2 as definitions
from saga_coordinator.pb.saga.v1 import directory_service_pb2 as directory
from saga_coordinator.saga.words.act import Declaration
from saga_coordinator.saga.words.errors import InvalidRequest

NUL: dict[str, Any] = {"requested_by": "\0", "reason": "\0"}


@pytest.mark.parametrize(
    ("read", "paths"),
    [
        (
            lambda: definition_readers.act_on_version(
                definitions.DeprecateDefinitionRequest(**NUL), is_version_required=True
            ),
            ["name", "version"],
        ),
        (
            lambda: directory_readers.put_participant(
                directory.PutParticipantRequest(participant=directory.Participant(target="\0"), **NUL)
            ),
            ["participant.target"],
        ),
        (lambda: directory_readers.delete_participant(directory.DeleteParticipantRequest(**NUL)), ["name"]),
        (
            lambda: directory_readers.set_breaker(directory.SetBreakerRequest(**NUL)),
            ["participant", "control"],
        ),
    ],
    ids=["version", "put", "delete", "breaker"],
)
def test_every_fault_is_told_at_once(read: Callable[[], Any], paths: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read()
    assert [fault.path for fault in refused.value.faults] == [*paths, "requested_by", "reason"]


def test_what_the_caller_says_is_read() -> None:
    request = directory.DeleteParticipantRequest(name="shop", requested_by="ana", reason="it has moved")
    assert directory_readers.delete_participant(request) == ("shop", Declaration("ana", "it has moved"))
