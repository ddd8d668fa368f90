"""Appends to test with, short to write down."""

from __future__ import annotations

import uuid
from typing import Any

from saga_coordinator.saga.machine.entries import (
    AttemptStarted,
    AttemptSucceeded,
    Entry,
    SagaCompleted,
    SagaStarted,
)
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.store.appends import Append, Move, Start

HERE = "00000000-0000-7000-8000-000000000001"
THERE = "00000000-0000-7000-8000-000000000002"
"""Two coordinators."""

ACTION = OperationKind.ACTION


def saga_id(number: int = 0) -> str:
    """A new one, or that of the number, which sort as their numbers do."""
    return f"00000000-0000-7000-9000-{number:012x}" if number else str(uuid.uuid4())


def a_start(
    saga: str,
    *more: Entry,
    key: str = "",
    definition: str = "order",
    status: SagaStatus = SagaStatus.RUNNING,
    wake_at: float | None = None,
    labels: dict[str, str] | None = None,
    given: Any = None,
    digest: bytes = b"digest",
    remaining: tuple[str, ...] = (),
) -> Append:
    """A saga's first entries and its row."""
    labels = labels or {}
    entries = (SagaStarted(definition, 1, given, labels), *more)
    start = Start(key or f"key of {saga}", digest, definition, 1, labels, None)
    return Append(saga, DEFAULT_NAMESPACE, 1, entries, start, a_move(status, wake_at, remaining))


def a_move(
    status: SagaStatus,
    wake_at: float | None = None,
    remaining: tuple[str, ...] = (),
    failure: Cause | None = None,
) -> Move:
    return Move(status, failure, remaining, status not in SETTLED and wake_at is None, wake_at)


def an_attempt(saga: str, sequence: int, number: int = 1) -> Append:
    """One entry in the middle of a saga's life, which does not touch its row."""
    return Append(saga, DEFAULT_NAMESPACE, sequence, (AttemptStarted("charge", ACTION, number),))


def an_end(saga: str, sequence: int, output: Any = None) -> Append:
    """The last two entries of a saga that completes."""
    entries = (AttemptSucceeded("charge", ACTION, 1, output), SagaCompleted())
    return Append(saga, DEFAULT_NAMESPACE, sequence, entries, move=a_move(SagaStatus.COMPLETED))
