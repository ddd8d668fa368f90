"""The state of one step, and what is known of its effect."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from saga_coordinator.saga.definition.model import Operation, Step
from saga_coordinator.saga.machine.entries import (
    WaitStarted,
)
from saga_coordinator.saga.machine.transitions import (
    StepStatus,
)
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.outcome import Cause

SUCCEEDED, REFUSED = "SUCCEEDED", "REFUSED"
"""The outcomes that decide an operation, by the names that `OutcomeLate.outcome` has for them."""


class EffectKnown(IntEnum):
    """The knowledge about an action's effect, from all of its attempts together.

    It only grows, with one exception: if a PENDING attempt has left the only doubt, the doubt goes when that attempt is
    reported REFUSED, even later.
    """

    NONE = 1
    POSSIBLE = 2
    CERTAIN = 3


_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


@immutable
class StepState:
    """The state of one instance of a step. `operation` is the present operation: the action, until a compensation starts.
    `attempt` and `failures` count its attempts and failures.

    Instants are seconds since the epoch. At `retry_at` the next attempt is due. Until `settles_at` an attempt of the action may
    be in flight although the coordinator no longer waits for its end. Before `pending_until` the outcome has to be reported; a
    wait ends at that instant. At `poll_at` the participant is asked again about the pending operation. Before `heartbeat_until`
    the participant has to send a heartbeat. After `deadline_at` no attempt of the action is made.

    `opened` is set for a step that runs a block: it holds the items, the index of the branch, or for each pass the output of
    the pass before. `wait` says what a waiting step waits for, unless it waits for a participant's report.
    """

    status: StepStatus = StepStatus.PENDING
    effect: EffectKnown = EffectKnown.NONE
    operation: OperationKind = _ACTION
    attempt: int = 0
    failures: int = 0
    is_in_flight: bool = False
    is_held: bool = False
    """True if the last attempt was not made. From `retry_at` on, the coordinator looks for room for it."""
    is_to_skip: bool = False
    """True if a person skipped the action before it began: it is skipped when its turn comes."""
    is_let_stand: bool = False
    """True if a person skipped the compensation: the effect remains, and no other step waits for it."""
    returns: int = 0
    """The number of attempts in a row that workers gave back without beginning them."""
    output: Any = None
    cause: Cause | None = None
    retry_at: float | None = None
    settles_at: float | None = None
    pending_until: float | None = None
    poll_at: float | None = None
    polls: int = 0
    heartbeat_until: float | None = None
    heartbeat_from: float | None = None
    """The first `heartbeat_until` of the attempt that is pending."""
    deadline_at: float | None = None
    opened: tuple[Any, ...] | None = None
    wait: WaitStarted | None = None
    action_attempts: int = 0
    effect_before_pending: EffectKnown = EffectKnown.NONE
    accepted_attempt: int = 0
    """The number of the PENDING attempt of the action, if it has left the only doubt. 0 if another attempt has left a doubt
    too, or none has.
    """
    told: frozenset[tuple[OperationKind, str]] = frozenset()
    """The decisive outcomes, SUCCEEDED and REFUSED, that the participant has told of each operation, in time or late (P9)."""

    @property
    def is_output_known(self) -> bool:
        """Tells whether `output` is what the action returned, and not just unknown."""
        return (_ACTION, SUCCEEDED) in self.told

    @property
    def is_refused(self) -> bool:
        """Tells whether the action was refused, by whichever attempt."""
        return (_ACTION, REFUSED) in self.told

    @property
    def is_waiting_for_report(self) -> bool:
        """Tells whether a participant has accepted the present operation and will report its outcome later."""
        return self.status is StepStatus.WAITING and self.wait is None

    @property
    def is_open(self) -> bool:
        """Tells whether the present operation is undecided: in flight, between attempts or awaiting a report."""
        return self.is_in_flight or self.retry_at is not None or self.status is StepStatus.WAITING

    def attempts(self, kind: OperationKind) -> int:
        """The number of attempts of that operation."""
        if kind is _ACTION:
            return self.action_attempts
        return self.attempt if self.operation is _COMPENSATION else 0


UNTOUCHED = StepState()


def needs_compensation(step: Step, state: StepState) -> bool:
    """Tells whether the step's action has, or may have, an effect that its compensation has not undone yet."""
    if step.compensation is None or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or (step.compensate_on_refusal and state.is_refused)


def has_standing_effect(step: Step, state: StepState) -> bool:
    """Tells whether an effect of the step stands or may stand. A parked saga lists these steps (P2).

    Waits and blocks have no effects themselves. The effects of the steps in a block belong to those steps.
    """
    if not isinstance(step.action, Operation):
        return False
    if step.is_read_only or state.status is StepStatus.COMPENSATED:
        return False
    return state.effect > EffectKnown.NONE or needs_compensation(step, state)
