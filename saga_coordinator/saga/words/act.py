"""Acts of a person, or of a service in a person's place, that change the course of things, and the record of each act (P12).

An act is recorded whether it was done or refused, in the same transaction as its change. The record is never changed.
"""

from __future__ import annotations

from enum import StrEnum

from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace

ANONYMOUS = "anonymous"
"""The principal of a caller who has shown no identity."""


class Verb(StrEnum):
    """The kind of an act. A value never changes once it has been released, since records hold it."""

    CANCEL_SAGA = "cancel_saga"
    APPROVE_STEP = "approve_step"
    REJECT_STEP = "reject_step"
    DEPRECATE_DEFINITION = "deprecate_definition"
    REINSTATE_DEFINITION = "reinstate_definition"
    SET_DEFAULT_VERSION = "set_default_version"
    DELETE_DEFINITION = "delete_definition"
    RESTORE_DEFINITION = "restore_definition"
    """A deletion is taken back, because a saga had begun with the version meanwhile."""
    PUT_PARTICIPANT = "put_participant"
    DELETE_PARTICIPANT = "delete_participant"
    SET_BREAKER = "set_breaker"
    PAUSE_SAGA = "pause_saga"
    RESUME_SAGA = "resume_saga"
    RETRY_STEP = "retry_step"
    SKIP_STEP = "skip_step"
    RESOLVE_STEP = "resolve_step"
    ABANDON_SAGA = "abandon_saga"


class SubjectKind(StrEnum):
    """What an act is about."""

    SAGA = "saga"
    DEFINITION = "definition"
    PARTICIPANT = "participant"


class ActResult(StrEnum):
    """The result of an act."""

    DONE = "done"
    NOTHING = "nothing"
    """The act was accepted and changed nothing, such as a second cancellation."""
    REFUSED = "refused"


@immutable
class Subject:
    """The thing that an act is about. `detail` is a saga's step, or a definition's version."""

    kind: SubjectKind
    name: str
    detail: str = ""


@immutable
class Declaration:
    """What the caller of an act says: who asks for it, and why."""

    declared_by: str = ""
    reason: str = ""


@immutable
class Act:
    """An act that was asked for, and the caller who asked.

    `principal` is the identity that the caller has shown; `declared_by` and `reason` are what the caller said. `act_id` is a
    UUID: an act that reaches a coordinator twice is recorded once.
    """

    act_id: str
    verb: Verb
    subject: Subject
    namespace: Namespace = DEFAULT_NAMESPACE
    principal: str = ANONYMOUS
    declared_by: str = ""
    reason: str = ""


@immutable
class ActRecord:
    """An act and its result. `why` is the reason of a refusal; `before` and `after` are states in words, where known."""

    act: Act
    result: ActResult
    why: str = ""
    before: str = ""
    after: str = ""
