"""Ways to break the way of a saga: its turn, its pivot, its ends, and how a parked one goes on."""

from __future__ import annotations

from dataclasses import replace

from proof.core.seams import called_otherwise, failing_turns_the_saga
from proof.mutant import Mutants, Patches, instead_of
from saga_coordinator.saga.definition.model import Definition, Step
from saga_coordinator.saga.machine import decide, forward, proceed, reports
from saga_coordinator.saga.machine.ahead import is_over
from saga_coordinator.saga.machine.draft import Draft, is_past_return
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.forward import is_blocked
from saga_coordinator.saga.machine.place import remaining_effects
from saga_coordinator.saga.machine.proceed import is_mended
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown, StepState, needs_compensation
from saga_coordinator.saga.machine.touched import may_be_undone
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.machine.undo import can_go_back
from saga_coordinator.saga.words.identity import OperationKind

MUTANTS = Mutants()
ACTION = OperationKind.ACTION


# The turn and the pivot.

MUTANTS.replaced(
    deadline_passes_unnoticed=lambda: instead_of(forward.is_overdue, lambda draft: False),
    deadline_of_the_saga_cuts_attempts_off=lambda: called_otherwise(
        lambda draft, node, call: no_later_than(draft, call, draft.state.deadline_at)
    ),
    deadline_of_a_step_cuts_attempts_off=lambda: called_otherwise(
        lambda draft, node, call: no_later_than(
            draft, call, draft.state.step(node.key).deadline_at if call.operation is ACTION else None
        )
    ),
    deadline_counts_after_the_pivot=lambda: instead_of(
        is_past_return, lambda definition, known: False, within=forward
    ),
    cancel_is_taken_after_the_pivot=lambda: instead_of(
        is_past_return, lambda definition, known: False, within=decide
    ),
    pivot_in_doubt_turns_the_saga=lambda: failing_turns_the_saga(lambda step: step.is_pivot),
    saga_turns_after_the_pivot=lambda: instead_of(Definition.is_after_pivot, lambda self, name: False),
)


def no_later_than(draft: Draft, call: Invoke, deadline_at: float | None) -> list[Invoke]:
    if deadline_at is None:
        return [call]
    left = max(0.001, deadline_at - draft.now)
    return [replace(call, timeout_seconds=min(left, call.timeout_seconds))]


# Ends.


@MUTANTS.broken()
def doubtful_effects_are_not_listed() -> Patches:
    def certain_effects(definition: Definition, known: SagaState) -> tuple[str, ...]:
        keys = remaining_effects(definition, known)
        return tuple(key for key in keys if known.step(key).effect is EffectKnown.CERTAIN)

    yield instead_of(remaining_effects, certain_effects)


MUTANTS.replaced(
    exhausted_compensation_counts_as_done=lambda: instead_of(remaining_effects, lambda definition, known: ()),
    saga_ends_while_a_compensation_is_in_flight=lambda: instead_of(
        StepState.is_open, property(lambda self: self.status is StepStatus.WAITING)
    ),
)


# A parked saga's way out.

MUTANTS.replaced(
    parked_saga_has_no_way_out=lambda: instead_of(proceed._unpark, lambda draft: None),
    parked_saga_goes_on_while_a_failure_holds_it_up=lambda: instead_of(is_blocked, lambda draft: False),
    parked_saga_never_goes_on_forward=lambda: instead_of(is_blocked, lambda draft: True),
    undo_that_was_parked_goes_on_for_any_reason=lambda: instead_of(can_go_back, lambda draft: True),
    undo_stays_parked_for_a_reason_that_is_no_more=lambda: instead_of(
        is_mended, lambda state: not state.remaining
    ),
    late_success_of_what_holds_the_saga_up_is_only_late=lambda: instead_of(
        is_over, lambda step, known: True, within=reports
    ),
    late_refusal_never_settles_a_doubt=lambda: instead_of(
        reports._is_only_doubt, lambda known, kind, attempt: False
    ),
)


@MUTANTS.broken()
def undo_that_was_parked_goes_on_only_when_nothing_remains() -> Patches:
    yield instead_of(can_go_back, lambda draft: False)
    yield instead_of(is_mended, lambda state: not state.remaining)


@MUTANTS.broken()
def compensation_that_was_given_up_is_tried_again() -> Patches:
    def may_be(step: Step, known: StepState) -> bool:
        is_begun = known.is_open or known.status is StepStatus.COMPENSATING
        return not is_begun and needs_compensation(step, known)

    yield instead_of(may_be_undone, may_be)


@MUTANTS.broken()
def late_refusal_settles_every_doubt() -> Patches:
    def is_settled(known: StepState, kind: OperationKind, attempt: int) -> bool:
        return kind is known.operation is ACTION and not known.is_in_flight

    yield instead_of(reports._is_only_doubt, is_settled)
