"""Acts for tests that are not about who acts."""

from __future__ import annotations

import uuid

from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace


def an_act(
    verb: Verb = Verb.SET_BREAKER,
    name: str = "payments",
    *,
    kind: SubjectKind = SubjectKind.PARTICIPANT,
    namespace: Namespace = DEFAULT_NAMESPACE,
    declared_by: str = "ana",
    reason: str = "maintenance",
) -> Act:
    return Act(
        str(uuid.uuid4()), verb, Subject(kind, name), namespace, declared_by=declared_by, reason=reason
    )
