"""Judges when attempts are made, and how many: budgets, pauses, what is held, and what is asked about; a part of the oracle."""

from __future__ import annotations

from proof.core.breach import check
from proof.core.foreseen import seconds
from proof.core.hearing import Hearing, Operation
from proof.core.takeovers import LOST
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, LookForRoom
from saga_coordinator.saga.machine.inputs import AttemptEnded, Input, RoomFound
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Held, Pending

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


class Attempts:
    """The attempts of one saga."""

    def __init__(self, told: Hearing) -> None:
        self.told = told
        self.polls: dict[Operation, float] = {}
        """When an operation is to be asked about next."""
        self.not_before: dict[Operation, float] = {}
        self.held: set[tuple[str, OperationKind | None]] = set()

    def decided(self, before: SagaState | None, happened: Input, decision: Decision, now: float) -> None:
        self._check_budgets(before, decision.entries, now)
        self._check_pauses(happened, decision, now)
        self._check_rooms(happened, decision, now)

    def made(self, invoke: Invoke, now: float) -> None:
        """Another attempt is made of the operation."""
        step, kind = operation = invoke.step, invoke.operation
        heard = self.told.heard[operation]
        check(heard.burnt < self.told.attempts_max(step, kind), f"{operation} is attempted beyond its budget")
        check(invoke.attempt == heard.started + 1, "attempts are counted one by one")
        check(self.not_before.get(operation, 0) <= now, "no retry before its time")
        check(not heard.succeeded, "what has succeeded is not attempted again")
        is_given_up = kind is COMPENSATION and step in self.told.watch.given_up
        check(not is_given_up, f"the compensation of {step} was given up, and is attempted again")
        deadline = self.told.deadline_of(step) if kind is ACTION else None
        check(deadline is None or deadline > now, f"{step} is attempted after its deadline")

    def _check_budgets(self, before: SagaState | None, entries: tuple[log.Entry, ...], now: float) -> None:
        for entry in entries:
            if isinstance(entry, log.AttemptUnknown | log.AttemptUnresolved) and entry.cause.code in (
                "PENDING_TIMEOUT",
                "STEP_DEADLINE",
            ):
                self.told.overdue(entry)
            if isinstance(entry, log.AttemptUnresolved) and entry.cause.code != "PENDING":
                is_action = entry.operation is ACTION
                most = self.told.attempts_max(entry.step, entry.operation)
                was_hopeless = is_action and before is not None and before.status is not SagaStatus.RUNNING
                burnt = self.told.heard[entry.step, entry.operation].burnt
                was_hopeless |= is_action and self._is_late_for_another(entry.step, now)
                was_hopeless |= not self._is_retried(entry)
                check(
                    was_hopeless or burnt >= most,
                    f"{entry.step} was given up after {burnt} of {most} attempts",
                )
            if isinstance(entry, log.AttemptUnknown):
                self.not_before[entry.step, entry.operation] = entry.retry_at
                if entry.cause.code == LOST:
                    continue
                check(self._is_retried(entry), f"{entry.step} is tried again after {entry.cause.code}")
                ceiling = self._pause_max(entry.step, entry.operation)
                if "pauses" in self.told.operation(entry.step, entry.operation)["retry"]:
                    check(entry.retry_delay_seconds == ceiling, "a listed pause is made as it is")
                check(0 <= entry.retry_delay_seconds <= ceiling, "the pause is within the policy's backoff")

    def _check_rooms(self, happened: Input, decision: Decision, now: float) -> None:
        """P10: what is held is looked after from its time on, and made once there is room, neither before nor long after."""
        held = {
            (entry.step, entry.operation): entry
            for entry in decision.entries
            if isinstance(entry, log.AttemptHeld)
        }
        looks = [each for each in decision.effects if isinstance(each, LookForRoom)]
        for look in looks:
            entry = held.get((look.step, look.operation))
            from_at, until_at = (now, now + 1) if entry is None else (entry.retry_at, entry.retry_at + 1e-6)
            is_timely = from_at <= look.due_at <= until_at
            check(is_timely, f"room for {look.step} is looked for from {look.due_at} on, not {from_at}")
        if isinstance(happened, RoomFound) and decision.state.step(happened.step).is_held:
            is_looked_for = happened.step in [look.step for look in looks] or GoOn() in decision.effects
            is_meant = decision.state.step(happened.step).operation is happened.operation
            check(
                is_looked_for or not is_meant or decision.state.status in SETTLED,
                f"there is room for {happened.step}, and nobody uses it",
            )

    def _check_pauses(self, happened: Input, decision: Decision, now: float) -> None:
        for entry in decision.entries:
            operation = (getattr(entry, "step", ""), getattr(entry, "operation", None))
            if isinstance(entry, log.AttemptStarted):
                is_found = (
                    isinstance(happened, RoomFound) and (happened.step, happened.operation) == operation
                )
                check(is_found or operation not in self.held, f"{operation} is held, and made without room")
                self.held.discard(operation)
            if isinstance(entry, log.AttemptHeld):
                self.held.add(operation)
                assert isinstance(happened, AttemptEnded)
                assert isinstance(happened.outcome, Held)
                least = now + happened.outcome.delay_seconds
                check(entry.retry_at >= least, f"{entry.step} was held, and is not left alone for as long")
            if isinstance(entry, log.AttemptPending):
                operation = (entry.step, entry.operation)
                is_answer = isinstance(happened, AttemptEnded) and isinstance(happened.outcome, Pending)
                is_due = self.polls.get(operation, 0) <= now
                check(is_answer or is_due, f"{entry.step} is asked about before the time")
                self.polls[operation] = entry.poll_at or 0.0
                most = self.told.deadline_of(entry.step)
                if entry.operation is ACTION and most is not None:
                    check(
                        entry.pending_until is not None and entry.pending_until <= most + 1e-6,
                        f"{entry.step} is awaited beyond its deadline",
                    )

    def _pause_max(self, step: str, kind: OperationKind) -> float:
        burnt = self.told.heard[step, kind].burnt
        retry = self.told.operation(step, kind)["retry"]
        if pauses := retry.get("pauses"):
            return seconds(pauses[min(max(burnt, 1), len(pauses)) - 1])
        doubled = seconds(retry["initial_backoff"]) * 2.0 ** max(0, burnt - 1)
        return min(seconds(retry["max_backoff"]), doubled)

    def _is_retried(self, entry: log.AttemptUnknown | log.AttemptUnresolved) -> bool:
        """Whether another attempt may follow one with that cause."""
        causes = self.told.operation(entry.step, entry.operation)["retry"].get("retry_on")
        return causes is None or entry.cause.code in causes

    def _is_late_for_another(self, step: str, now: float) -> bool:
        """Whether the step's own deadline may come before another attempt of its action."""
        passes_at = self.told.deadline_of(step)
        return passes_at is not None and now + self._pause_max(step, ACTION) >= passes_at
