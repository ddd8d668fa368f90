"""When a saga looks for room for its held steps."""

from __future__ import annotations

from saga_coordinator.engine.held import HeldSteps
from saga_coordinator.saga.machine.effects import LookForRoom, SetTimer
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, CauseCode


def held_by(**codes: CauseCode) -> SagaState:
    steps = {
        name: StepState(status=StepStatus.RUNNING, is_held=True, retry_at=1.0, cause=Cause(code, "no"))
        for name, code in codes.items()
    }
    return SagaState("saga", SagaStatus.RUNNING, "order", 1, None, {}, None, steps=steps)


def look(step: str, at: float) -> LookForRoom:
    return LookForRoom("saga", step, OperationKind.ACTION, "p", "do", at)


def test_participants_that_nobody_knows_here_are_looked_for_together_so_that_the_saga_is_let_go() -> None:
    """Looks three seconds apart would keep it in memory for ever, where no other coordinator may claim it."""
    held = HeldSteps()
    state = held_by(pay=CauseCode.NO_SUCH_PARTICIPANT, ship=CauseCode.NO_SUCH_PARTICIPANT)
    held.follow(held_by(pay=CauseCode.NO_SUCH_PARTICIPANT), [look("pay", 106.0)], (), 100.0)

    assert held.follow(state, [look("ship", 109.0)], (), 103.0) == (SetTimer(109.0),)


def test_a_look_for_room_is_not_put_off_by_another() -> None:
    held = HeldSteps()
    state = held_by(pay=CauseCode.PARTICIPANT_BUSY, ship=CauseCode.NO_SUCH_PARTICIPANT)
    looks = [look("pay", 101.0), look("ship", 106.0)]

    assert held.follow(state, looks, (), 100.0) == (SetTimer(101.0),)
