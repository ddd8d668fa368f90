"""Names that stay the same across attempts, restarts and coordinators."""

from enum import StrEnum


class OperationKind(StrEnum):
    """Which of a step's two operations."""

    ACTION = "action"
    COMPENSATION = "compensation"


def idempotency_key(saga_id: str, step: str, operation: OperationKind) -> str:
    """The key that every attempt of one operation carries (P5): `SAGA_ID/STEP/action` or `SAGA_ID/STEP/compensation`.

    Derived from nothing that changes between attempts, so a coordinator that takes a saga over sends the same key as the one
    that crashed. The attempt number travels beside it.
    """
    return f"{saga_id}/{step}/{operation}"
