"""Judges how inputs move a saga: what they do, when it turns, and that it never stands still; a part of the oracle."""

from __future__ import annotations

from proof.core.breach import check
from proof.core.hearing import Hearing
from proof.core.world import MADE_UP, World
from saga_coordinator.saga.machine import decide as core
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, LookForEvent, LookForRoom, SetTimer
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    CancelAsked,
    EventArrived,
    Input,
    OutcomeReported,
    OwnershipGained,
    RecallAsked,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Held, Pending, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


class Moves:
    """What inputs do to one saga."""

    def __init__(self, told: Hearing) -> None:
        self.told = told

    def decided(self, before: SagaState | None, happened: Input, decision: Decision, now: float) -> None:
        self._check_events(before, happened, decision)
        self._check_inputs(before, happened, decision)
        self._check_turn(before, decision.entries, now)

    def went_on(self, happened: Input, decision: Decision, world: World) -> None:
        """After a decision that was free to make calls."""
        self._check_moves(decision, world)
        self._check_repetition(happened, decision, world)

    def _check_events(self, before: SagaState | None, happened: Input, decision: Decision) -> None:
        if before is not None and isinstance(happened, EventArrived) and before.status not in SETTLED:
            check(
                happened.event_id in self.told.watch.arrived,
                f"{happened.event_id} has come, and is forgotten",
            )
        if decision.state.status is not SagaStatus.RUNNING:
            return
        begun = {entry.step for entry in decision.entries if isinstance(entry, log.WaitStarted)}
        is_new_here = isinstance(happened, OwnershipGained)
        looked_for = {
            (effect.event, effect.correlation)
            for effect in decision.effects
            if isinstance(effect, LookForEvent)
        }
        for key in self.told.watch.open_waits:
            correlation = self.told.foreseen.correlation(key)
            if correlation and (is_new_here or key in begun):
                wanted = (self.told.foreseen.leaves[key].spec["await_event"]["event"], correlation)
                check(
                    wanted in looked_for, f"nobody looks whether the event that {key} waits for came before"
                )

    def _check_inputs(self, before: SagaState | None, happened: Input, decision: Decision) -> None:
        failed = [entry for entry in decision.entries if isinstance(entry, log.SagaFailed)]
        if isinstance(happened, CancelAsked | RecallAsked):
            assert before is not None
            is_parked_ahead = before.status is SagaStatus.NEEDS_ATTENTION and self.told.turned_by is None
            is_ahead = before.status is SagaStatus.RUNNING or (
                is_parked_ahead and isinstance(happened, CancelAsked)
            )
            is_past = not is_ahead or (
                self._may_be_past_pivot() if is_parked_ahead else self.told.is_pivot_attempted
            )
            code = "CANCELLED" if isinstance(happened, CancelAsked) else "PARENT_FAILED"
            is_turned = any(entry.cause.code == code for entry in failed)
            check(
                is_turned is not is_past,
                "a cancel turns a saga that goes forward or is parked there, unless its pivot was attempted",
            )
            if is_ahead and is_past:
                check(isinstance(decision.answer, Refusal), "a cancel after the pivot's attempt is refused")
        if isinstance(happened, OutcomeReported) and happened.outcome == Succeeded(MADE_UP):
            check(isinstance(decision.answer, Refusal), "a report of what was never attempted is refused")
            told = decision.state.step(happened.step).told
            check(not [kind for kind, _ in told if kind is happened.operation], "and it is not believed")
        if isinstance(happened, RecallAsked):
            assert before is not None
            is_undone = any(isinstance(entry, log.SagaRecalled) for entry in decision.entries)
            is_completed = before.status is SagaStatus.COMPLETED
            check(
                is_undone == (is_completed and not self.told.pivot),
                "a completed saga is undone, unless it has a pivot",
            )
            check(
                isinstance(decision.answer, Refusal) or not is_completed or is_undone,
                "a recall that nothing follows is refused",
            )
        if isinstance(happened, OwnershipGained) and before is not None and before.status not in SETTLED:
            check(decision.entries, "P8: an adoption takes the sequence that the previous owner would take")

    def _may_be_past_pivot(self) -> bool:
        return self.told.pivot is not None and self.told.heard[self.told.pivot, ACTION].may_have_happened

    def _check_turn(self, before: SagaState | None, entries: tuple[log.Entry, ...], now: float) -> None:
        for entry in entries:
            if isinstance(entry, log.SagaFailed | log.SagaRecalled):
                check(self.told.turned_by is None, "a saga turns once")
                self.told.turned_by = entry.cause.code
                if entry.cause.step:
                    check(
                        self.told.instances[entry.cause.step].on_failure == "compensate",
                        f"the saga turns because of {entry.cause.step}, whose failure does not mean that",
                    )
                if self.told.pivot is not None:
                    heard = self.told.heard[self.told.pivot, ACTION]
                    is_clear = heard.refused + heard.unsent > 0 and not heard.may_have_happened
                    check(not heard.started or is_clear, "nothing goes back once the pivot may have happened")
                if entry.cause.code == "DEADLINE":
                    assert before is not None
                    assert before.deadline_at is not None
                    check(before.deadline_at <= now, "the deadline has passed")
            elif isinstance(entry, log.AttemptStarted):
                is_action = entry.operation is ACTION
                check(
                    is_action == (self.told.turned_by is None),
                    "actions before the turn, compensations after it",
                )

    def _check_moves(self, decision: Decision, world: World) -> None:
        if decision.state.status in SETTLED or GoOn() in decision.effects:
            return
        timers = [effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)]
        calls = any(isinstance(effect, Invoke | LookForRoom) for effect in decision.effects)
        is_waiting = decision.state.status is SagaStatus.RUNNING and self.told.watch.open_waits
        held = {operation for operation in world.looking if decision.state.step(operation[0]).is_held}
        is_moving = timers or self.told.open or calls or is_waiting or held
        check(is_moving, f"P1: nothing will ever happen to this saga again: {decision.state}")
        deadline_at = decision.state.deadline_at
        is_left_to_a_person = any(
            self.told.instances[key].on_failure == "pause" for key in self.told.watch.failed
        )
        if (
            decision.state.status is SagaStatus.RUNNING
            and deadline_at
            and not self.told.is_pivot_attempted
            and not is_left_to_a_person
        ):
            is_pivot_next = any(
                isinstance(effect, Invoke) and effect.step == self.told.pivot for effect in decision.effects
            )
            check(deadline_at > world.now or is_pivot_next, "a deadline that has passed is noticed")
            check(is_pivot_next or min(timers) <= deadline_at, "a deadline has a timer")

    def _check_repetition(self, happened: Input, decision: Decision, world: World) -> None:
        state = decision.state
        if (
            GoOn() in decision.effects
            or not isinstance(happened, AttemptEnded | OutcomeReported)
            or happened.outcome == Succeeded(MADE_UP)
        ):
            return
        if isinstance(
            happened.outcome, Unknown | Pending | Held
        ):  # says nothing that a repetition could repeat
            return
        again = core.decide(world.definition, state, happened, world.now, 0.5)
        check(not again.entries and again.state == state, f"P9: told twice, {happened} moved something again")
        check(isinstance(again.answer, NotApplied | Refusal), "P9: a repetition is answered as one")
