"""Ways to break the acts of people. Each must be caught in some story in which people act."""

from __future__ import annotations

from dataclasses import replace

from proof.mutant import Mutants, Patches, folded, handled, instead_of
from saga_coordinator.saga.machine import acts
from saga_coordinator.saga.machine.act_entries import FoundNotDone, FoundUndone, SagaAbandoned
from saga_coordinator.saga.machine.draft import Draft
from saga_coordinator.saga.machine.inputs import AbandonAsked, ResolveAsked
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState
from saga_coordinator.saga.machine.transitions import SagaStatus

MUTANTS = Mutants()


@MUTANTS.broken()
def act_counts_each_time_it_is_asked() -> Patches:
    yield instead_of(acts.is_done_already, lambda draft, act: False)


@MUTANTS.broken()
def retry_is_taken_while_an_attempt_is_in_flight() -> Patches:
    def waits(draft: Draft, key: str, step: StepState) -> bool:
        return step.retry_at is not None or step.is_in_flight

    yield instead_of(acts.waits_for_retry, waits)


@MUTANTS.broken()
def finding_is_taken_while_an_attempt_may_be_in_flight_unseen() -> Patches:
    yield instead_of(acts.may_arrive_until, lambda step: float("-inf"))


@MUTANTS.broken()
def what_was_never_done_counts_as_done() -> Patches:
    yield folded(
        lambda before, entry, after: (
            replace(after, effect=EffectKnown.CERTAIN) if isinstance(entry, FoundNotDone) else after
        )
    )


def abandon_silently(draft: Draft, given: AbandonAsked) -> None:
    draft.record(SagaAbandoned((), given.act.act_id))


@MUTANTS.broken()
def abandoned_saga_lists_no_effects() -> Patches:
    yield handled(abandon_silently, AbandonAsked, SagaStatus.NEEDS_ATTENTION)


@MUTANTS.broken()
def effect_is_called_undone_while_the_saga_goes_forward() -> Patches:
    def find(draft: Draft, given: ResolveAsked, step: StepState) -> None:
        draft.record(FoundUndone(given.step, given.act.act_id))

    yield instead_of(acts.find_undone, find)


@MUTANTS.broken()
def pause_holds_nothing() -> Patches:
    yield instead_of(Draft.may_call, property(lambda draft: draft.may_call_here))
