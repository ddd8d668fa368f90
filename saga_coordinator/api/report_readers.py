"""Reads reports about attempts and checks them whole: InvalidRequest has every fault of a request."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.saga.machine.inputs import HeartbeatReceived, OutcomeReported
from saga_coordinator.saga.words.token import AttemptNamed, parse_token
from saga_coordinator.wire.enumerations import OPERATION_KINDS
from saga_coordinator.wire.field_checks import STEP_KEY_CHARACTERS_MAX, FieldChecks
from saga_coordinator.wire.outcomes import told_outcome


def report_outcome(
    request: saga_service_pb2.ReportOutcomeRequest, payload_bytes_max: int
) -> tuple[str, OutcomeReported]:
    """The saga's id, and the outcome of one of its operations."""
    checks = FieldChecks()
    named = _attempt(checks, request)
    outcome = told_outcome(
        request, lambda path, value: checks.payload(path, value, payload_bytes_max), checks.cause
    )
    if outcome is None:
        checks.add(
            "outcome",
            "is required: one of success, refused and unknown. Without an output it is `success` with nothing in it; "
            "`succeeded` with a null is no outcome at all in many languages",
        )
    checks.done()
    assert named is not None
    assert outcome is not None
    return named.saga_id, OutcomeReported(named.step, named.operation, outcome, named.attempt)


def heartbeat(request: saga_service_pb2.HeartbeatRequest) -> tuple[str, HeartbeatReceived]:
    """The saga's id, and the operation that is still being worked on."""
    checks = FieldChecks()
    named = _attempt(checks, request)
    details = checks.text("details", request.details)
    checks.done()
    assert named is not None
    return named.saga_id, HeartbeatReceived(named.step, named.operation, named.attempt, details)


def _attempt(
    checks: FieldChecks, request: saga_service_pb2.ReportOutcomeRequest | saga_service_pb2.HeartbeatRequest
) -> AttemptNamed | None:
    """The operation that is meant, named by the token or by three fields. The fields do not say which attempt."""
    if request.token:
        for path in ("saga_id", "step", "operation"):
            if getattr(request, path):
                checks.add(path, "cannot be given together with token, which already names it")
        if (named := named_by(request.token)) is None:
            checks.add("token", "is not valid: send back the `saga-token` that came with the call, unchanged")
        return named
    saga_id = checks.saga_id(request.saga_id)
    step = checks.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    operation = OPERATION_KINDS.get(request.operation)
    if operation is None:
        checks.add("operation", "must be OPERATION_KIND_ACTION or OPERATION_KIND_COMPENSATION")
        return None
    return AttemptNamed(saga_id, step, operation, 0)


def named_by(token: str) -> AttemptNamed | None:
    """The attempt that a token names; None if the coordinator made no such token."""
    try:
        return parse_token(token)
    except ValueError:
        return None
