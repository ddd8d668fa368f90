"""The entries that people's acts leave in a saga's log. Each names the act, who asked for it and why.

`act_id` is the identity of the act's record (`saga.words.act`). A saga that holds an act does not do it again (P9).
"""

from __future__ import annotations

from typing import Any, ClassVar

from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


@immutable
class OperationRetried:
    """A person has the operation attempted again at `retry_at`, under the same key and with a fresh budget of attempts.

    The step's deadline counts anew from the next attempt. `attempt` is the number of the last attempt.
    """

    step: str
    operation: OperationKind
    attempt: int
    retry_at: float
    act_id: str
    requested_by: str = ""
    reason: str = ""


@immutable
class OperationSkipped:
    """A person lets the saga go on as if the operation had ended.

    A skipped action has `output`, and the saga goes on with the steps after it; if it has not begun, it is skipped when its turn
    comes. A skipped compensation holds nothing up any more; the effect that it should have undone remains.
    """

    step: str
    operation: OperationKind
    attempt: int
    act_id: str
    output: Any = None
    requested_by: str = ""
    reason: str = ""


@immutable
class FoundDone:
    """A person found that the action took effect. `reason` is the evidence.

    `is_passed` is set if the saga had gone on without the action. Then the step stays FAILED, and the steps that have begun
    since are told nothing new (P5).
    """

    step: str
    act_id: str
    output: Any = None
    requested_by: str = ""
    reason: str = ""
    is_passed: bool | None = None
    operation: ClassVar[OperationKind] = ACTION
    attempt: ClassVar[int] = 0


@immutable
class FoundNotDone:
    """A person found that the action never took effect. `reason` is the evidence. `is_passed` as in `FoundDone`."""

    step: str
    act_id: str
    requested_by: str = ""
    reason: str = ""
    is_passed: bool | None = None
    operation: ClassVar[OperationKind] = ACTION
    attempt: ClassVar[int] = 0


@immutable
class FoundUndone:
    """A person found that the action's effect is undone, or that there was none to undo. `reason` is the evidence."""

    step: str
    act_id: str
    requested_by: str = ""
    reason: str = ""
    operation: ClassVar[OperationKind] = COMPENSATION
    attempt: ClassVar[int] = 0


@immutable
class SagaPaused:
    """A person holds the saga: no attempt and no wait begins until the saga is resumed. Outcomes, events and timers count on."""

    act_id: str
    requested_by: str = ""
    reason: str = ""


@immutable
class SagaResumed:
    """The saga that was paused goes on."""

    act_id: str
    requested_by: str = ""
    reason: str = ""


@immutable
class SagaAbandoned:
    """A person ends the saga with effects left: `remaining` names the steps whose effect stands or may stand."""

    remaining: tuple[str, ...]
    act_id: str
    requested_by: str = ""
    reason: str = ""


StepAct = OperationRetried | OperationSkipped | FoundDone | FoundNotDone | FoundUndone
SagaAct = SagaPaused | SagaResumed | SagaAbandoned

STEP_ACTS: tuple[type[StepAct], ...] = (
    OperationRetried,
    OperationSkipped,
    FoundDone,
    FoundNotDone,
    FoundUndone,
)
SAGA_ACTS: tuple[type[SagaAct], ...] = (SagaPaused, SagaResumed, SagaAbandoned)
