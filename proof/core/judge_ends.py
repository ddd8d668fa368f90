"""Judges what a saga knows of effects, and what it says of them at its end; a part of the oracle."""

from __future__ import annotations

from proof.core.breach import check
from proof.core.hearing import Hearing
from proof.core.world import World
from saga_coordinator.saga.machine.inputs import AttemptEnded, Input, OutcomeReported
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Refused

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


class Ends:
    """The effects and the end of one saga."""

    def __init__(self, told: Hearing) -> None:
        self.told = told

    def check_effects_grow(self, before: SagaState | None, happened: Input, after: SagaState) -> None:
        for name, step in after.steps.items():
            known = before.step(name).effect if before else 0
            is_pending_refused = (
                before is not None
                and before.step(name).status is StepStatus.WAITING
                and isinstance(happened, AttemptEnded | OutcomeReported)
                and isinstance(happened.outcome, Refused)
            )
            heard = self.told.heard[name, ACTION]
            is_cleared = heard.accepted and heard.refused and not heard.may_have_happened
            check(
                step.effect >= known or is_pending_refused or is_cleared,
                f"the known effect of {name} has shrunk",
            )
            if heard.may_have_happened and after.adoption is None:
                check(step.effect > EffectKnown.NONE, f"{name} may have happened, and that was forgotten")
            if heard.succeeded:
                check(step.effect is EffectKnown.CERTAIN, f"{name} has happened, and that was forgotten")

    def check_end(self, state: SagaState, *, is_parked_for_takeovers: bool) -> None:
        standing = {name for name in self.told.steps if self._stands(name)}
        match state.status:
            case SagaStatus.COMPLETED:
                undone = [key for key in self.told.foreseen.leaves if not self.told.is_over(key)]
                check(not undone, f"P2: completed without {undone}")
                check(not any(call.invoke.operation is COMPENSATION for call in self.told.calls), "P13")
            case SagaStatus.COMPENSATED:
                check(not standing, f"P2: compensated, and {standing} stand")
            case _:
                check(state.status is SagaStatus.NEEDS_ATTENTION, f"ended as {state.status}")
                remaining = set(state.remaining)
                check(standing <= remaining, f"P2: {standing - remaining} stand and are not listed")
                self._check_reason(state, is_parked_for_takeovers=is_parked_for_takeovers)
                unsure = {name for name in self.told.steps if self.told.heard[name, ACTION].pending}
                wanted = {
                    name
                    for name, each in self.told.steps.items()
                    if each.get("compensate_on_refusal") and self.told.heard[name, ACTION].refused
                }
                if is_parked_for_takeovers:
                    pass
                elif self.told.turned_by is not None:
                    check(remaining, "P1: nothing remains, and it waits for a person")
                    self._check_nothing_left_undone(standing)
                else:
                    self._check_held_up()
                check(
                    remaining <= standing | unsure | wanted,
                    f"P2: {remaining - standing} do not stand and are listed",
                )
        for call in self.told.open.values():
            is_known = call in self.told.decided_early or state.status is SagaStatus.NEEDS_ATTENTION
            check(call.invoke.operation is ACTION or is_known, "no end while a compensation is in flight")

    def _check_reason(self, state: SagaState, *, is_parked_for_takeovers: bool) -> None:
        """A parked saga says what it is parked for: of several reasons, one that still stands."""
        reason = state.blocked_by
        assert reason is not None, "P1: it waits for a person, and does not say why"
        if is_parked_for_takeovers:
            check(reason.code == "NO_PROGRESS", f"P1: taken over too often, it is parked for {reason}")
        elif self.told.turned_by is not None:
            check(reason.step in state.remaining, f"P1: parked for {reason}, which is no more")
        else:
            check(reason.step in self.told.watch.failed, f"P1: parked for {reason}, which has not failed")

    def _check_held_up(self) -> None:
        """A saga that is parked on its way forward has a failure that is neither the way forward nor the way back."""
        failed = {key for key in self.told.watch.failed if not self.told.is_over(key)}
        if self.told.pivot is not None and not self.told.heard[self.told.pivot, ACTION].may_have_happened:
            failed -= (
                {self.told.pivot}
                if self.told.instances[self.told.pivot].on_failure == "compensate"
                else set()
            )
        check(failed, "P1: no failure holds it up, and it waits for a person")

    def _check_nothing_left_undone(self, standing: set[str]) -> None:
        """What stands and could be undone was tried, unless it waits for one after it that could not be undone."""
        for key in standing:
            if not self.told.instances[key].has_undo or key in self.told.watch.given_up:
                continue
            holding = {
                later
                for later in self.told.after[key]
                if (later in standing or self._may_be_wanted(later))
                and self.told.instances[later].has_undo
                and not (self.told.instances[later].is_undo_optional and later in self.told.watch.given_up)
            }
            check(holding, f"P2: {key} stands, nothing held up its compensation, and it never came")

    def _may_be_wanted(self, key: str) -> bool:
        """Whether it was refused and is to be undone even so, or accepted and never heard of again."""
        action = self.told.heard[key, ACTION]
        is_wanted = action.pending or (self.told.steps[key].get("compensate_on_refusal") and action.refused)
        return bool(is_wanted) and not self.told.heard[key, COMPENSATION].succeeded

    def _stands(self, name: str) -> bool:
        """Whether the coordinator has to assume that an effect of the step stands."""
        if self.told.steps[name].get("read_only") or not self.told.heard[name, ACTION].may_have_happened:
            return False
        undoing = self.told.heard[name, COMPENSATION]
        is_certain = self.told.heard[name, ACTION].succeeded
        return not (undoing.succeeded or (undoing.not_found and not is_certain))

    def check_truth(self, world: World) -> None:
        """After everything has arrived: what the participants really did, against what the saga says."""
        state = world.state
        assert state is not None
        real = {
            name
            for name, site in world.participants.sites.items()
            if site.has_effect and not self.told.steps[name].get("read_only")
        }
        match state.status:
            case SagaStatus.COMPLETED:
                undone = {key for key, site in world.participants.sites.items() if not site.is_applied}
                check(
                    undone <= self.told.watch.failed | self.told.watch.skipped, "P2: completed, but not done"
                )
                check(
                    not any(site.is_undone for site in world.participants.sites.values()),
                    "P2: completed, but undone",
                )
            case SagaStatus.COMPENSATED:
                check(not real, f"P2: compensated, but {real} really stand")
            case _:
                check(
                    real <= set(state.remaining),
                    f"P2: {real - set(state.remaining)} stand and are not listed",
                )
