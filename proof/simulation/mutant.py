"""How the checker is set on a broken engine: batches run with it, until a promise is found broken."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from proof.mutant import Mutant, instead_of
from proof.simulation.batch import run_batch
from proof.simulation.checker import Verdict, judge
from proof.simulation.run import seed_of
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.saga.machine.answers import APPLIED
from saga_coordinator.saga.machine.inputs import Asked

_SEED = 11
_SAGAS = 60


def forgetting(kind: type[Asked]) -> AbstractContextManager[None]:
    """A coordinator promises what is asked so, and does nothing about it."""
    ask = Coordinator.ask

    async def forgetful(self: Coordinator, saga_id: str, asked: Asked) -> Answered:
        return Answered(APPLIED) if isinstance(asked, kind) else await ask(self, saga_id, asked)

    return instead_of(ask, forgetful)


def doing_nothing(seam: Any, answer: Any = None) -> AbstractContextManager[None]:
    """A coroutine of the engine answers at once, and does nothing."""

    async def nothing(*_: Any) -> Any:
        return answer

    return instead_of(seam, nothing)


def hunt(broken: Mutant, batches_max: int) -> Verdict | None:
    """The first verdict that finds a broken promise of those that the mutant breaks; None when none does."""
    with broken.alive():
        for number in range(broken.first, broken.first + batches_max):
            verdict = judge(run_batch(seed_of(_SEED, number), _SAGAS, broken.focus))
            if any(violation.promise in broken.breaks for violation in verdict.violations):
                return verdict
    return None
