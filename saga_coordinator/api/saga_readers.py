"""Reads requests about sagas and checks them whole: each function returns what its request asks for.

Each raises InvalidRequest with every fault that the request has. A fault's path is the name of the field in the contract; its
description says what would be right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from saga_coordinator.api.caller import Metadata
from saga_coordinator.engine.start import StartSaga
from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.pb.saga.v1 import saga_service_pb2
from saga_coordinator.saga.machine.inputs import ApprovalDecided, CancelAsked
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.wire.enumerations import SAGA_STATUSES
from saga_coordinator.wire.field_checks import (
    PERSON_CHARACTERS_MAX,
    START_KEY_CHARACTERS_MAX,
    STEP_KEY_CHARACTERS_MAX,
    FieldChecks,
)

HEADERS_SENT_ON: Mapping[str, int] = {"traceparent": 55, "tracestate": 512, "baggage": 8192}
"""Metadata of a start that every call of the saga carries on, and how long each may be (W3C Trace Context and Baggage)."""

FORWARDED_CHARACTERS_MAX = 1024
"""How long the value of a header may be that is sent on because the settings say so."""


def start_saga(
    request: saga_service_pb2.StartSagaRequest,
    payload_bytes_max: int,
    metadata: Metadata = (),
    forwarded: Collection[str] = (),
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> StartSaga:
    """The start that is asked for. `forwarded` names the metadata that is sent on beside `HEADERS_SENT_ON`."""
    checks = FieldChecks()
    asked = StartSaga(
        definition=checks.name("definition", request.definition, is_required=True),
        version=checks.version(request.version),
        start_key=checks.line("start_key", request.start_key, START_KEY_CHARACTERS_MAX, is_required=True),
        input=checks.payload("input", request.input, payload_bytes_max) if request.HasField("input") else {},
        labels=checks.labels(request.labels) if request.labels else {},
        deadline_seconds=checks.seconds("deadline", request.deadline)
        if request.HasField("deadline")
        else None,
        headers=_headers_sent_on(checks, metadata, forwarded),
        namespace=namespace,
    )
    checks.done()
    return asked


def _headers_sent_on(
    checks: FieldChecks, metadata: Metadata, forwarded: Collection[str]
) -> dict[str, str] | None:
    """The caller's trace context, without entries that are not fit to be sent on, as the W3C asks of those who pass it on.

    Metadata that is `forwarded` may decide what a participant does, so an unfit entry is refused and not left out.
    """
    found = {
        name: value
        for name, value in metadata
        if name in HEADERS_SENT_ON and isinstance(value, str) and len(value) <= HEADERS_SENT_ON[name]
    }
    for name, value in metadata:
        if name in forwarded and name not in HEADERS_SENT_ON and isinstance(value, str):
            if name in found:
                checks.add(f"metadata {name}", "is given twice; it is sent on, so it must mean one thing")
            found[name] = checks.line(f"metadata {name}", value, FORWARDED_CHARACTERS_MAX)
    return found or None


def which_saga(request: saga_service_pb2.GetSagaRequest) -> tuple[str, str]:
    """The saga's id, or else its start key; the other one is empty."""
    checks = FieldChecks()
    asked = ("", "")
    if bool(request.saga_id) == bool(request.start_key):
        checks.add("saga_id", "give either saga_id or start_key")
    elif request.saga_id:
        asked = (checks.saga_id(request.saga_id), "")
    else:
        asked = ("", checks.line("start_key", request.start_key, START_KEY_CHARACTERS_MAX))
    if request.log_after_sequence < 0:
        checks.add("log_after_sequence", "must be 0 or more")
    checks.done()
    return asked


def wait_saga(request: saga_service_pb2.WaitSagaRequest) -> tuple[str, float | None]:
    """The saga's id, and the most seconds to wait, if the request says so."""
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    seconds = (
        checks.seconds("timeout", request.timeout, may_be_zero=True) if request.HasField("timeout") else None
    )
    checks.done()
    return found, seconds


def watch_saga(request: saga_service_pb2.WatchSagaRequest) -> tuple[str, int]:
    """The saga's id, and the sequence behind which to begin."""
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    if request.after_sequence < 0:
        checks.add("after_sequence", "must be 0 or more")
    checks.done()
    return found, request.after_sequence


def cancel_saga(request: saga_service_pb2.CancelSagaRequest) -> tuple[str, CancelAsked]:
    """The saga's id, the reason for the cancellation, and who asks for it."""
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    reason = checks.text("reason", request.reason, is_required=True)
    requested_by = checks.text("requested_by", request.requested_by)
    checks.done()
    return found, CancelAsked(reason, requested_by)


def decide_approval(request: saga_service_pb2.DecideApprovalRequest) -> tuple[str, ApprovalDecided]:
    """The saga's id, and the decision: about which step, by whom, and which."""
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    step = checks.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    decided_by = checks.line("decided_by", request.decided_by, PERSON_CHARACTERS_MAX, is_required=True)
    comment = checks.text("comment", request.comment)
    checks.done()
    return found, ApprovalDecided(step, request.approved, decided_by, comment)


def preview_compensation(request: saga_service_pb2.PreviewCompensationRequest) -> str:
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    checks.done()
    return found


def saga_filter(request: saga_service_pb2.ListSagasRequest) -> tuple[SagaFilter, int]:
    """The filter, and how many sagas to list."""
    checks = FieldChecks()
    for index, status in enumerate(request.statuses):
        if status not in SAGA_STATUSES:
            checks.add(f"statuses[{index}]", f"is {status}, which is no status of a saga")
    wanted = SagaFilter(
        statuses=tuple(SAGA_STATUSES[status] for status in request.statuses if status in SAGA_STATUSES),
        definition=checks.name("definition", request.definition),
        labels=checks.labels(request.labels),
        condition=parse_filter(request.filter, "filter", checks.found),
    )
    page_size = checks.page_size(request.page_size)
    checks.done()
    return wanted, page_size
