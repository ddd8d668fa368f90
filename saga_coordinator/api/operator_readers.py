"""What callers of `saga.v1.OperatorService` send, checked whole: every fault is told at once, with its path."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.saga.words.act import SubjectKind
from saga_coordinator.wire.enumerations import ACT_SUBJECT_KINDS
from saga_coordinator.wire.field_checks import FieldChecks


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
