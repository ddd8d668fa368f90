"""Errors on the wire: each of ours has a row, each detail says what a program can act upon, and defects stay in the log."""

import asyncio
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from saga_coordinator.api.status import (
    DOMAIN,
    FAULTS_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    TABLE,
    Resource,
    row_of,
    status_of,
)
from saga_coordinator.participants.payload import PayloadError
from saga_coordinator.saga import errors
from saga_coordinator.store.schema import SchemaMismatch

METHOD = "saga.v1.SagaService/StartSaga"
TREE = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SagaError)
]


def rich(status: grpc.Status) -> status_pb2.Status:
    ((key, value),) = status.trailing_metadata or ()
    assert key == "grpc-status-details-bin"
    return status_pb2.Status.FromString(value)


def details_of(error: BaseException, resource: Resource | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for packed in rich(status_of(error, method=METHOD, resource=resource)).details:
        name = packed.TypeName().removeprefix("google.rpc.")
        found[name] = getattr(error_details_pb2, name)()
        assert packed.Unpack(found[name])
    return found


@pytest.mark.parametrize("error", [each for each in TREE if each is not errors.SagaError])
def test_every_error_of_ours_has_a_row(error: type[errors.SagaError]) -> None:
    assert error in TABLE


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.InvalidRequest.at("a", "b"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (PayloadError("a", "b"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (errors.InvalidDefinition([]), "INVALID_ARGUMENT", "INVALID_DEFINITION"),
        (errors.NotFound("x"), "NOT_FOUND", "NOT_FOUND"),
        (errors.AlreadyExists("x"), "ALREADY_EXISTS", "ALREADY_EXISTS"),
        (errors.NotPossibleNow("x"), "FAILED_PRECONDITION", "NOT_POSSIBLE_NOW"),
        (errors.Unavailable("x"), "UNAVAILABLE", "UNAVAILABLE"),
        (errors.Overloaded("x"), "RESOURCE_EXHAUSTED", "OVERLOADED"),
        (errors.OwnershipLost("x"), "UNAVAILABLE", "OWNERSHIP_LOST"),
        (errors.ImpossibleTransition("x"), "INTERNAL", "INTERNAL"),
        (errors.ExpressionError("x"), "INTERNAL", "INTERNAL"),
        (errors.SagaError("x"), "INTERNAL", "INTERNAL"),
        (SchemaMismatch("x"), "INTERNAL", "INTERNAL"),
        (KeyError("x"), "INTERNAL", "INTERNAL"),
    ],
)
def test_the_table(error: BaseException, code: str, reason: str) -> None:
    row = row_of(error)
    assert (row.code.name, row.reason) == (code, reason)
    status = status_of(error, method=METHOD)
    assert status.code is row.code
    assert rich(status).code == row.code.value[0]
    assert rich(status).message == status.details
    info = details_of(error)["ErrorInfo"]
    assert (info.reason, info.domain) == (reason, DOMAIN)


def test_a_cancelled_call_has_no_row() -> None:
    assert row_of(asyncio.CancelledError()).is_defect  # and rpc.py lets it pass, as it is no Exception


def test_faults_are_field_violations() -> None:
    error = errors.InvalidRequest(
        [errors.Fault("start_key", "is required"), errors.Fault("version", "is wrong")]
    )
    assert status_of(error, method=METHOD).details == "2 faults: start_key: is required; version: is wrong"
    violations = details_of(error)["BadRequest"].field_violations
    assert [(each.field, each.description) for each in violations] == [
        ("start_key", "is required"),
        ("version", "is wrong"),
    ]


def test_a_status_fits_into_trailers_however_many_faults_there_are() -> None:
    error = errors.InvalidDefinition([errors.Fault(f"steps[{n}].name", "ä" * 100) for n in range(200)])
    status = status_of(error, method=METHOD)
    assert len(status.details.encode()) <= MESSAGE_BYTES_MAX
    assert len(rich(status).SerializeToString()) < MESSAGE_BYTES_MAX + FAULTS_BYTES_MAX + 500
    violations = details_of(error)["BadRequest"].field_violations
    assert (
        violations[-1].description == f"and {200 - len(violations) + 1} more, for which there is no room here"
    )


def test_an_outage_says_when_to_try_again() -> None:
    retry = details_of(errors.Unavailable("x", retry_after_seconds=2.5))["RetryInfo"]
    assert retry.retry_delay.ToMicroseconds() == 2_500_000
    assert details_of(errors.OwnershipLost("x"))["RetryInfo"].retry_delay.ToMicroseconds() > 0


def test_what_does_not_exist_is_named() -> None:
    info = details_of(errors.NotFound("x"), Resource("saga.v1.Saga", "7"))["ResourceInfo"]
    assert (info.resource_type, info.resource_name) == ("saga.v1.Saga", "7")


def test_a_defect_is_told_to_the_log_and_not_to_the_caller() -> None:
    try:
        raise RuntimeError("the password is hunter2")
    except RuntimeError as error:
        with structlog.testing.capture_logs() as logs:
            status = status_of(error, method=METHOD)
    (line,) = logs
    assert line["event"] == "request_failed"
    assert line["method"] == METHOD
    assert isinstance(line["exc_info"], RuntimeError)
    assert line["error_id"] in status.details
    assert "hunter2" not in status.details
    assert b"hunter2" not in rich(status).SerializeToString()


def test_text_that_is_no_utf_8_does_not_break_the_answer() -> None:
    assert status_of(errors.NotFound("a\ud800b"), method=METHOD).details == "a?b"
