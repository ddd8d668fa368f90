"""What the coordinator has been told, from outside: calls and how they ended, reports, and what follows from them.

A part of the oracle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proof.core.foreseen import CHILD, Foreseen, seconds
from proof.core.watch import Watch
from proof.core.world import MADE_UP, Call
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.inputs import AttemptEnded, Input, OutcomeReported, OwnershipGained
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Held, Pending, Refused, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
Operation = tuple[str, OperationKind]


@dataclass
class Heard:
    """What the coordinator has been told about one operation, in the order it was told."""

    started: int = 0
    burnt: int = 0
    unsent: int = 0
    succeeded: int = 0
    refused: int = 0
    not_found: int = 0
    pending: int = 0
    is_awaited: bool = False
    doubts: set[int] = field(default_factory=set)
    """Attempts of which nobody knows whether they took effect."""
    accepted: int = 0
    """The attempt that was answered with PENDING last."""

    @property
    def may_have_happened(self) -> bool:
        return bool(self.succeeded or self.doubts)


class Hearing:
    """Listens to one saga."""

    def __init__(self, foreseen: Foreseen) -> None:
        self.foreseen = foreseen
        self.instances = foreseen.plan.instances
        self.steps = {key: call.spec for key, call in foreseen.calls.items()}
        """Those of the instances that call somebody, by key."""
        self.after = {key: foreseen.after[key] & self.steps.keys() for key in self.steps}
        self.pivot = foreseen.plan.pivot
        self.watch = Watch(foreseen)
        self.heard: dict[Operation, Heard] = defaultdict(Heard)
        self.decided_early: set[Call] = set()
        """Calls still in flight when a report decided their operation: how they end says nothing more."""
        self.first_at: dict[str, float] = {}
        """When an action was attempted first."""
        self.open: dict[tuple[str, OperationKind, int], Call] = {}
        self.calls: list[Call] = []
        self.outputs: dict[str, Any] = {}
        self.turned_by: str | None = None
        """The code of the cause for which the saga has turned."""

    def called(self, call: Call) -> None:
        invoke = call.invoke
        if invoke.is_poll:
            return
        self.calls.append(call)
        if invoke.operation is ACTION:
            self.first_at.setdefault(invoke.step, call.started_at)
        self.open[invoke.step, invoke.operation, invoke.attempt] = call
        self.heard[invoke.step, invoke.operation].started += 1

    def hear(self, before: SagaState | None, happened: Input) -> None:
        if isinstance(happened, OwnershipGained):
            for (step, kind, _), call in self.open.items():
                if call.is_lost and call not in self.decided_early:
                    self.heard[step, kind].doubts.add(call.invoke.attempt)
            self.open = {key: call for key, call in self.open.items() if not call.is_lost}
        if not isinstance(happened, AttemptEnded | OutcomeReported) or happened.outcome == Succeeded(MADE_UP):
            return
        ended: Call | None = None
        if isinstance(happened, AttemptEnded):  # it stays None for a poll
            ended = self.open.pop((happened.step, happened.operation, happened.attempt), None)
        elif isinstance(happened.outcome, Refused) and before is not None and before.adoption is not None:
            known = before.step(happened.step)
            if known.is_in_flight and known.operation is happened.operation:
                # The takeover has not come to this attempt yet, so its refusal is heard before it was ever in doubt.
                self.heard[happened.step, happened.operation].doubts.discard(known.attempt)
        self._hear_outcome(happened, ended)
        if ended is None and isinstance(happened.outcome, Succeeded | Refused):
            self.heard[happened.step, happened.operation].is_awaited = False
            self.decided_early |= {
                each for key, each in self.open.items() if key[:2] == (happened.step, happened.operation)
            }

    def _hear_outcome(self, happened: AttemptEnded | OutcomeReported, call: Call | None) -> None:
        """What it says about the operation. `call` is the one that ended; None for a report, or a poll."""
        heard = self.heard[happened.step, happened.operation]
        is_news = call is not None and call not in self.decided_early
        match happened.outcome:
            case Succeeded(output):
                heard.succeeded += 1
                if happened.operation is ACTION:
                    self.outputs.setdefault(happened.step, output)
            case Refused(cause):
                heard.refused += 1
                heard.not_found += cause.code == "NOT_FOUND"
                is_begun = (
                    self.heard[happened.step, COMPENSATION].started or happened.step in self.watch.given_up
                )
                if heard.doubts == {heard.accepted} == {happened.attempt or heard.started} and not is_begun:
                    heard.doubts.clear()  # the attempt in doubt is the one that was refused
            case Pending():
                heard.pending += 1
                heard.is_awaited |= is_news
                heard.accepted = happened.attempt if is_news else heard.accepted
            case Unknown(was_sent=was_sent) if isinstance(happened, AttemptEnded):
                heard.burnt += is_news
                heard.unsent += is_news and not was_sent
                heard.doubts |= {happened.attempt} if is_news and was_sent else set()
            case Held(was_given=was_given):
                heard.started -= is_news and not was_given
                heard.unsent += is_news and was_given
            case Unknown():
                heard.burnt += heard.is_awaited
                heard.doubts |= {happened.attempt or heard.started} if heard.is_awaited else set()
                heard.is_awaited = False

    def overdue(self, entry: log.AttemptUnknown | log.AttemptUnresolved) -> None:
        """A report has not come in time."""
        heard = self.heard[entry.step, entry.operation]
        heard.burnt += 1
        heard.doubts.add(entry.attempt)
        heard.is_awaited = False

    @property
    def is_pivot_attempted(self) -> bool:
        return self.pivot is not None and self.heard[self.pivot, ACTION].started > 0

    def is_over(self, key: str) -> bool:
        """Whether what comes after the instance may start."""
        if self.watch.is_over(key):
            return True
        if key not in self.steps:
            return False
        return self.heard[key, ACTION].succeeded > 0

    def deadline_of(self, step: str) -> float | None:
        """When the time of its action is up; None as long as it was not attempted, and where it has no deadline."""
        deadline = self.steps[step].get("deadline")
        if deadline is None or step not in self.first_at:
            return None
        return self.first_at[step] + seconds(deadline)

    def operation(self, step: str, kind: OperationKind) -> Mapping[str, Any]:
        return CHILD if "saga" in self.steps[step] else self.instances[step].operation(kind)

    def attempts_max(self, step: str, kind: OperationKind) -> int:
        return int(self.operation(step, kind)["retry"]["max_attempts"])
