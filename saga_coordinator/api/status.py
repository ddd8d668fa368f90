"""Errors on the wire: a table from our error tree to gRPC statuses, with details that a program can act upon."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from saga_coordinator import telemetry
from saga_coordinator.saga.words import errors
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.wire.times import duration_of

DOMAIN = "saga-coordinator"
"""`ErrorInfo.domain` of every error."""

MESSAGE_BYTES_MAX = 800
FAULTS_BYTES_MAX = 3000
METADATA_BYTES_MAX = 300
"""A status travels in the trailers, message and details both; common limits for those begin at 8 KiB, base64 included."""

log = telemetry.logger()

_throttle = telemetry.Throttle()


@dataclass(frozen=True, slots=True)
class Row:
    """The status of an error class. A defect is told to the log, and the caller gets only its error id."""

    code: grpc.StatusCode
    is_defect: bool = False


TABLE: Mapping[type[errors.SagaError], Row] = {
    errors.InvalidRequest: Row(grpc.StatusCode.INVALID_ARGUMENT),
    errors.InvalidDefinition: Row(grpc.StatusCode.INVALID_ARGUMENT),
    errors.NotFound: Row(grpc.StatusCode.NOT_FOUND),
    errors.AlreadyExists: Row(grpc.StatusCode.ALREADY_EXISTS),
    errors.NotPossibleNow: Row(grpc.StatusCode.FAILED_PRECONDITION),
    errors.NotAllowed: Row(grpc.StatusCode.PERMISSION_DENIED),
    errors.Unavailable: Row(grpc.StatusCode.UNAVAILABLE),
    errors.Overloaded: Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.QuotaReached: Row(grpc.StatusCode.RESOURCE_EXHAUSTED),
    # The saga is another coordinator's now; the same request, repeated, is carried out there.
    errors.OwnershipLost: Row(grpc.StatusCode.UNAVAILABLE),
    # These two are dealt with inside. If one comes out, that is a defect, like any error that is not ours.
    errors.ImpossibleTransition: Row(grpc.StatusCode.INTERNAL, is_defect=True),
    errors.ExpressionError: Row(grpc.StatusCode.INTERNAL, is_defect=True),
}
"""A class without a row of its own has that of its nearest ancestor; without any, it is a defect."""

_DEFECT = Row(grpc.StatusCode.INTERNAL, is_defect=True)


def row_of(error: BaseException) -> Row:
    for ancestor in type(error).__mro__:
        if (row := TABLE.get(ancestor)) is not None:
            return row
    return _DEFECT


def reason_of(error: BaseException) -> Reason:
    """`ErrorInfo.reason`, a name of `saga.v1.ErrorReason` without its prefix."""
    if isinstance(error, errors.SagaError) and not row_of(error).is_defect:
        return error.reason
    return Reason.INTERNAL


def status_of(error: BaseException, *, method: str, resource: errors.Resource | None = None) -> grpc.Status:
    """The status that answers `error`, raised by `method` (`saga.v1.SagaService/StartSaga`). Defects are logged here."""
    row = row_of(error)
    info = error_details_pb2.ErrorInfo(reason=reason_of(error), domain=DOMAIN)
    if row.is_defect:
        error_id = uuid.uuid4().hex[:12]
        left_out = _throttle.admits(f"{method} {type(error).__name__}")
        if left_out is not None:
            more = {"left_out_before": left_out} if left_out else {}
            log.error("request_failed", error_id=error_id, method=method, **more, exc_info=error)
        info.metadata["error_id"] = error_id
        message = f"the coordinator failed on this request; its log says why under error_id {error_id}"
        return _status(row.code, message, [info])
    if isinstance(error, errors.SagaError):
        info.metadata.update({name: cut(value, METADATA_BYTES_MAX) for name, value in error.about.items()})
    return _status(row.code, _message(error), [info, *_details(error, resource)])


def _message(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, errors.InvalidRequest) and len(error.faults) > 1:
        text = f"{len(error.faults)} faults: {text}"
    return cut(text, MESSAGE_BYTES_MAX)


def _details(error: BaseException, resource: errors.Resource | None) -> Iterable[Message]:
    match error:
        case errors.InvalidRequest():
            yield _bad_request(error.faults)
        case errors.Unavailable():
            yield _retry_info(error.retry_after_seconds)
        case errors.OwnershipLost():
            yield _retry_info(0.1)
        case errors.AlreadyExists():
            yield _resource_info(error.resource)
        case errors.NotFound() if resource is not None:
            yield _resource_info(resource)
        case _:
            pass


def _bad_request(faults: Iterable[errors.Fault]) -> error_details_pb2.BadRequest:
    """The detail with as many faults as the trailers have room for. The last violation says how many were left out."""
    bad = error_details_pb2.BadRequest()
    room = FAULTS_BYTES_MAX
    left_out = 0
    for fault in faults:
        room -= len(fault.path.encode()) + len(fault.told.encode()) + 8
        if room < 0:
            left_out += 1
        else:
            bad.field_violations.add(field=fault.path, description=fault.told)
    if left_out:
        bad.field_violations.add(description=f"and {left_out} more, which do not fit here")
    return bad


def _resource_info(resource: errors.Resource) -> error_details_pb2.ResourceInfo:
    return error_details_pb2.ResourceInfo(
        resource_type=resource.type, resource_name=cut(resource.name, METADATA_BYTES_MAX)
    )


def _retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=duration_of(seconds))


def _status(code: grpc.StatusCode, message: str, details: Iterable[Message]) -> grpc.Status:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=packed))


def cut(text: str, bytes_max: int) -> str:
    """`text` as valid UTF-8, cut with a mark if it is longer than `bytes_max` bytes."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - 3].decode("utf-8", "ignore") + "..."
