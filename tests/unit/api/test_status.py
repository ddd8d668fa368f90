"""Errors on the wire: each of ours has a row, each detail says what a program can act upon, and defects stay in the log."""

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

import saga_coordinator
from saga_coordinator.api.status import (
    DOMAIN,
    FAULTS_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    TABLE,
    reason_of,
    row_of,
    status_of,
)
from saga_coordinator.pb.saga.v1 import error_reason_pb2
from saga_coordinator.saga.words import errors
from saga_coordinator.saga.words.errors import Resource
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import StartKeyTaken
from saga_coordinator.store.schema import SchemaMismatch
from saga_coordinator.wire.payload import PayloadError

METHOD = "saga.v1.SagaService/StartSaga"
TREE = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SagaError)
]


def _is_abstract(kind: type[errors.SagaError]) -> bool:
    return kind is errors.SagaError or kind.__name__.startswith("_")


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


@pytest.mark.parametrize("error", [each for each in TREE if not _is_abstract(each)])
def test_every_error_of_ours_has_a_row(error: type[errors.SagaError]) -> None:
    assert error in TABLE


def _everywhere(kind: type[errors.SagaError]) -> Iterator[type[errors.SagaError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _everywhere(each)


def test_no_error_goes_without_a_reason() -> None:
    """A class has one for all of its errors, or none can be made without one."""
    for module in pkgutil.walk_packages(saga_coordinator.__path__, "saga_coordinator."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    kinds = [each for each in _everywhere(errors.SagaError) if each.__module__.startswith("saga_coordinator")]
    assert StartKeyTaken in kinds
    for kind in kinds:
        is_asked = "reason" in inspect.signature(kind.__init__).parameters
        is_set = any("reason" in vars(each) for each in kind.__mro__ if each is not errors.SagaError)
        is_made_with_one = kind in (errors.Overloaded, StartKeyTaken)  # which hand it to their parent
        row = next((TABLE[each] for each in kind.__mro__ if each in TABLE), None)
        is_defect = row is None or row.is_defect
        assert is_defect or is_asked or is_set or is_made_with_one, kind


def test_the_reasons_are_those_of_the_contract() -> None:
    prefix = "ERROR_REASON_"
    names = {each.name.removeprefix(prefix) for each in error_reason_pb2.ErrorReason.DESCRIPTOR.values}
    assert names - {"UNSPECIFIED"} == {reason.value for reason in Reason}
    assert all(reason.name == reason.value for reason in Reason)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.InvalidRequest.at("a", "b"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (PayloadError("a", "b"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (errors.InvalidDefinition([]), "INVALID_ARGUMENT", "INVALID_DEFINITION"),
        (errors.NotFound(Reason.NO_SUCH_SAGA, "x"), "NOT_FOUND", "NO_SUCH_SAGA"),
        (StartKeyTaken("key", "7", b""), "ALREADY_EXISTS", "START_KEY_TAKEN"),
        (errors.NotPossibleNow(Reason.SAGA_ENDED, "x"), "FAILED_PRECONDITION", "SAGA_ENDED"),
        (errors.Refusal(Reason.NO_WAIT, "x").error(), "FAILED_PRECONDITION", "NO_WAIT"),
        (errors.Refusal(Reason.NOT_AN_APPROVER, "x").error(), "PERMISSION_DENIED", "NOT_AN_APPROVER"),
        (errors.Unavailable(Reason.LEASE_LOST, "x"), "UNAVAILABLE", "LEASE_LOST"),
        (errors.QuotaReached("x"), "RESOURCE_EXHAUSTED", "QUOTA_REACHED"),
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
    assert (row.code.name, reason_of(error)) == (code, reason)
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
    assert violations[-1].description == f"and {200 - len(violations) + 1} more, which do not fit here"


def test_an_outage_says_when_to_try_again() -> None:
    retry = details_of(errors.Unavailable(Reason.DATABASE_UNAVAILABLE, "x"))["RetryInfo"]
    assert retry.retry_delay.ToMicroseconds() == 1_000_000
    assert details_of(errors.OwnershipLost("x"))["RetryInfo"].retry_delay.ToMicroseconds() > 0


def test_what_does_not_exist_is_named() -> None:
    info = details_of(errors.NotFound(Reason.NO_SUCH_SAGA, "x"), Resource("saga.v1.Saga", "7"))[
        "ResourceInfo"
    ]
    assert (info.resource_type, info.resource_name) == ("saga.v1.Saga", "7")


def test_a_start_key_names_the_saga_that_has_it() -> None:
    found = details_of(StartKeyTaken("order 7", "saga 8", b""), Resource("saga.v1.Definition", "order"))
    info = found["ResourceInfo"]
    assert (info.resource_type, info.resource_name) == ("saga.v1.Saga", "saga 8")
    assert dict(found["ErrorInfo"].metadata) == {"saga_id": "saga 8"}


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
    assert status_of(errors.NotFound(Reason.NO_SUCH_SAGA, "a\ud800b"), method=METHOD).details == "a?b"
