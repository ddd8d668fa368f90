"""Names that stay the same across attempts, restarts and coordinators."""

import re
from collections.abc import Callable
from enum import StrEnum

SAGA_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A UUID, as identities are written."""

PARENT_LABEL = "parent_saga_id"
"""Every child carries its parent's identity under this label, so that a list finds a saga's children."""


class OperationKind(StrEnum):
    """The kind of an operation: a step's action or its compensation."""

    ACTION = "action"
    COMPENSATION = "compensation"


def idempotency_key(saga_id: str, step: str, operation: OperationKind) -> str:
    """The key that every attempt of one operation carries (P5): `SAGA_ID/STEP/action` or `SAGA_ID/STEP/compensation`.

    The key depends on nothing that changes between attempts. So a coordinator that takes a saga over sends the same key as the
    coordinator that crashed. The attempt number travels beside the key.
    """
    return f"{saga_id}/{step}/{operation}"


def uuid7(now: float, random_bits: Callable[[int], int]) -> str:
    """A UUIDv7 (RFC 9562): identities sort by the time when they were made, in milliseconds. `now` is in seconds since 1970."""
    bits = int(now * 1000) << 80 | 0x7 << 76 | random_bits(12) << 64 | 0b10 << 62 | random_bits(62)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
