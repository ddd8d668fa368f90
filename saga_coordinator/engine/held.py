"""The held steps of a saga and when to look for room for them next. The next attempt of a held step waits for room at its
participant.

The instant of the next look is not in the log: a saga that is held for long would fill it.
"""

from __future__ import annotations

from collections.abc import Sequence

from saga_coordinator.saga.machine.effects import Effect, GoOn, LookForRoom, SetTimer
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.words.outcome import CauseCode

NEVER = float("inf")


class HeldStep:
    """One held step. `look_at` is the instant of the next look for room, by the database's clock. It is `NEVER` during a look."""

    __slots__ = ("look_at", "wanted")

    def __init__(self, wanted: LookForRoom) -> None:
        self.wanted = wanted
        self.look_at = wanted.due_at

    def look_next(self, at: float) -> None:
        """Sets the instant of the next look for room."""
        self.look_at = at


class HeldSteps:
    """The held steps of one saga, by the step's key."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: dict[str, HeldStep] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def get(self, step: str) -> HeldStep | None:
        """The held step of that key; None if the step is not held."""
        return self._steps.get(step)

    def follow(
        self, state: SagaState, wanted: Sequence[LookForRoom], effects: tuple[Effect, ...], now: float
    ) -> tuple[Effect, ...]:
        """Forgets steps that are not held in `state` any more, and adds those of `wanted`.

        Returns `effects` with the looks that are due by now, and with a timer for the next look.
        """
        steps = self._steps | {each.step: HeldStep(each) for each in wanted}
        self._steps = steps = {
            key: held
            for key, held in steps.items()
            if (known := state.step(key)).is_held and known.operation is held.wanted.operation
        }
        if state.hold is not None:  # nothing begins before a person resumes the saga, which then asks anew
            self._steps = steps = {}
        _look_together(
            [
                held
                for key, held in steps.items()
                if now < held.look_at < NEVER and _waits_for_unknown(state.step(key))
            ]
        )
        due = tuple(held.wanted for held in steps.values() if held.look_at <= now)
        next_at = min((held.look_at for held in steps.values() if held.look_at > now), default=NEVER)
        if next_at == NEVER or any(isinstance(effect, GoOn) for effect in effects):
            return (*effects, *due)
        timers = [effect.due_at for effect in effects if isinstance(effect, SetTimer)]
        others = tuple(effect for effect in effects if not isinstance(effect, SetTimer))
        return (*others, *due, SetTimer(min((next_at, *timers))))

    def begin_look(self, step: str) -> HeldStep:
        """Notes that a look for the step's room begins. Returns the held step for `end_look`."""
        held = self._steps[step]
        held.look_next(NEVER)
        return held

    def end_look(self, held: HeldStep, *, look_again_at: float | None) -> bool:
        """Ends a look. Either the step is not held any more, or the next look is at `look_again_at`.

        Returns False if the answer comes too late, because the step went on meanwhile or is held anew.
        """
        step = held.wanted.step
        if self._steps.get(step) is not held:
            return False
        if look_again_at is None:
            del self._steps[step]
        else:
            held.look_next(look_again_at)
        return True

    def look_now(self, participant: str) -> bool:
        """Makes looks for room at a participant due. Returns False if no step waits to look there."""
        waiting = [
            held
            for held in self._steps.values()
            if held.wanted.participant == participant and held.look_at < NEVER
        ]
        for held in waiting:
            held.look_next(min(held.look_at, 0.0))
        return bool(waiting)


def _waits_for_unknown(step: StepState) -> bool:
    return step.cause is not None and step.cause.code == CauseCode.NO_SUCH_PARTICIPANT


def _look_together(steps: Sequence[HeldStep]) -> None:
    """Looks for the steps at the instant of the last of them.

    Participants that nobody knows here are looked for so rarely that the saga is let go meanwhile, and another coordinator that
    knows them may claim it. Looks at different instants would keep it here for ever.
    """
    latest = max((held.look_at for held in steps), default=NEVER)
    for held in steps:
        held.look_next(latest)
