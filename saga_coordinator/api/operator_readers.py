"""What callers of `saga.v1.OperatorService` send, checked whole: every fault is told at once, with its path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from saga_coordinator.control.sagas import Demand
from saga_coordinator.filters.parsing import parse_filter
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    Finding,
    PauseAsked,
    PersonAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.words.act import Act, SubjectKind, Verb
from saga_coordinator.saga.words.identity import SAGA_ID
from saga_coordinator.store.sagas import SagaFilter
from saga_coordinator.wire.enumerations import ACT_SUBJECT_KINDS, FINDINGS
from saga_coordinator.wire.field_checks import STEP_KEY_CHARACTERS_MAX, FieldChecks


def act_list(request: pb.ListActsRequest) -> tuple[SubjectKind | None, str, int]:
    """The kind of subjects and the subject that acts are asked for, None and an empty text for any, and the size of a page."""
    checks = FieldChecks()
    kind = ACT_SUBJECT_KINDS.get(request.subject_kind)
    if kind is None and request.subject_kind:
        checks.add("subject_kind", f"{request.subject_kind} is no kind of subject that this version knows")
    subject = checks.text("subject", request.subject)
    if subject and kind is None:
        checks.add("subject_kind", "is required with a subject")
    page_size = checks.page_size(request.page_size)
    checks.done()
    return kind, subject, page_size


GROUPS_DEFAULT, GROUPS_MAX = 50, 200


def count_sagas(request: pb.CountSagasRequest) -> SagaFilter:
    checks = FieldChecks()
    wanted = SagaFilter(condition=parse_filter(request.filter, "filter", checks.found))
    checks.done()
    return wanted


def group_failures(request: pb.GroupFailuresRequest) -> tuple[SagaFilter, timedelta | None, int]:
    """The filter, how long ago sagas may have been turned back, and the most groups to answer."""
    checks = FieldChecks()
    wanted = SagaFilter(condition=parse_filter(request.filter, "filter", checks.found))
    within = None
    if request.HasField("failed_within"):
        within = timedelta(seconds=checks.seconds("failed_within", request.failed_within))
    if not 0 <= request.limit <= GROUPS_MAX:
        checks.add("limit", f"is {request.limit}; it must be 1 to {GROUPS_MAX}, or 0 for {GROUPS_DEFAULT}")
    checks.done()
    return wanted, within, request.limit or GROUPS_DEFAULT


def which_saga(request: pb.ListAvailableActsRequest) -> str:
    checks = FieldChecks()
    found = checks.saga_id(request.saga_id)
    checks.done()
    return found


def pause_saga(request: pb.PauseSagaRequest) -> Demand:
    return _demand(FieldChecks(), request, Verb.PAUSE_SAGA, PauseAsked)


def resume_saga(request: pb.ResumeSagaRequest) -> Demand:
    return _demand(FieldChecks(), request, Verb.RESUME_SAGA, ResumeAsked)


def retry_saga(request: pb.RetrySagaRequest) -> Demand:
    checks = FieldChecks()
    step = checks.line("step", request.step, STEP_KEY_CHARACTERS_MAX)
    return _demand(checks, request, Verb.RETRY_STEP, partial(RetryAsked, step), step)


def skip_step(request: pb.SkipStepRequest, payload_bytes_max: int) -> Demand:
    checks = FieldChecks()
    step = checks.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    output = _output(checks, request, payload_bytes_max)
    return _demand(checks, request, Verb.SKIP_STEP, partial(SkipAsked, step, output), step)


def resolve_step(request: pb.ResolveStepRequest, payload_bytes_max: int) -> Demand:
    checks = FieldChecks()
    step = checks.line("step", request.step, STEP_KEY_CHARACTERS_MAX, is_required=True)
    finding = FINDINGS.get(request.finding)
    if finding is None:
        checks.add("finding", "is required, one of FINDING_DONE, FINDING_NOT_DONE and FINDING_UNDONE")
    elif request.HasField("output") and finding is not Finding.DONE:
        checks.add("output", "belongs to FINDING_DONE: what never happened or is undone has none")
    output = _output(checks, request, payload_bytes_max)
    asked = partial(ResolveAsked, step, finding or Finding.DONE, output)
    return _demand(checks, request, Verb.RESOLVE_STEP, asked, step, is_reason_required=True)


def abandon_saga(request: pb.AbandonSagaRequest) -> Demand:
    return _demand(FieldChecks(), request, Verb.ABANDON_SAGA, AbandonAsked, is_reason_required=True)


def _output(checks: FieldChecks, request: pb.SkipStepRequest | pb.ResolveStepRequest, bytes_max: int) -> Any:
    return checks.payload("output", request.output, bytes_max) if request.HasField("output") else None


class _ActRequest(Protocol):
    """The fields that every request for an act on a saga has."""

    saga_id: str
    act_id: str
    requested_by: str
    reason: str
    dry_run: bool


def _demand(
    checks: FieldChecks,
    request: _ActRequest,
    verb: Verb,
    asked: Callable[[Act], PersonAsked],
    step: str = "",
    *,
    is_reason_required: bool = False,
) -> Demand:
    """The demand of the request, with the fields that every such request has. Raises InvalidRequest with all faults found."""
    saga_id = checks.saga_id(request.saga_id)
    act_id = request.act_id.lower()
    if act_id and not SAGA_ID.fullmatch(act_id):
        checks.add("act_id", "must be a UUID, or empty")
    declaration = checks.declaration(request, is_reason_required=is_reason_required)
    checks.done()
    return Demand(saga_id, verb, asked, step, act_id, declaration, request.dry_run)
