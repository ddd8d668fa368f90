"""A decision, and the effects that it asks for. Effects are performed once the decision's entries are committed (P6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from saga_coordinator.saga.machine.answers import APPLIED, Answer
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause


@immutable
class Invoke:
    """Call a participant. `input` is rendered; the deadline of the call is `timeout_seconds` from when it is made.

    `step` is the key of the step's instance. A poll asks again about an operation that was accepted before. `deadline_at` is the
    saga's; `depth` counts the sagas above a child that this call would start, 1 for the first.
    """

    saga_id: str
    step: str
    operation: OperationKind
    attempt: int
    idempotency_key: str
    participant: str
    method: str
    input: Any
    timeout_seconds: float
    failure: Cause | None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_poll: bool = False
    deadline_at: float | None = None
    depth: int = 1


@immutable
class LookForEvent:
    """Look up whether an event that a step now waits for was published before. If so, come back with EventArrived.

    The event counts if it was published after the saga's start, or at most `look_back_seconds` before the start.
    """

    saga_id: str
    event: str
    correlation: str
    look_back_seconds: float = 0.0


@immutable
class LookForRoom:
    """From `due_at` on, look whether there is room for a held attempt. Come back with RoomFound once there is. No participant
    is called, so this needs no entry.

    A decision asks for this once for each hold and each owner, and again if the room that was found could not be used. The shell
    decides how often it looks while the attempt is held.
    """

    saga_id: str
    step: str
    operation: OperationKind
    participant: str
    method: str
    due_at: float


@immutable
class SetTimer:
    """Come back with TimerFired at `due_at`. This replaces the timer before; a decision without SetTimer leaves no timer."""

    due_at: float


@immutable
class Finish:
    """The saga no longer moves by itself."""

    status: SagaStatus


@immutable
class GoOn:
    """Come back with TimerFired as soon as other sagas have had their turn, because there is more work than one decision may
    do.
    """


Effect = Invoke | LookForEvent | LookForRoom | SetTimer | GoOn | Finish


@immutable
class Decision:
    """The result of `decide`. The shell commits `entries` first, and then performs `effects`.

    `answer` goes to the caller who brought the input. `work` is the cost of the decision, in the units of `meter`.
    """

    entries: tuple[Entry, ...]
    effects: tuple[Effect, ...]
    state: SagaState
    answer: Answer = APPLIED
    work: int = 0
