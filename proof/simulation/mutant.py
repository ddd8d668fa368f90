"""What a broken engine is, and how the checker is set on it: patches while batches run, until a promise is found broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from proof.definitions import Focus
from proof.simulation.batch import run_batch
from proof.simulation.checker import Verdict, judge
from proof.simulation.run import seed_of
from saga_coordinator.engine.asking import Answered
from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.saga.machine.answers import APPLIED
from saga_coordinator.saga.machine.inputs import Asked

Patches = Iterator[tuple[object, str, Any]]

_SEED = 11
_SAGAS = 60


@dataclass(frozen=True, slots=True)
class Mutant:
    """`breaks` are the promises of which the checker must find at least one broken, in batches about `focus`."""

    name: str
    breaks: tuple[str, ...]
    patches: Callable[[], Patches]
    focus: Focus
    first: int
    """The batch with which the search begins: one of the first that show it, as things are."""

    @contextmanager
    def alive(self) -> Iterator[None]:
        """The program is broken inside."""
        with ExitStack() as stack:
            for target, name, broken in self.patches():
                stack.enter_context(patch.object(target, name, broken))
            yield


MUTANTS: list[Mutant] = []


def mutant(
    *breaks: str,
    about: tuple[str, ...] = (),
    participants: tuple[str, ...] = (),
    sharing: float = 0.15,
    pending: float | None = None,
    first: int = 0,
) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    """Enlists a function that says what to put in the place of what: targets, names and the broken versions."""

    def enlist(patches: Callable[[], Patches]) -> Callable[[], Patches]:
        focus = Focus(about, participants, sharing, pending)
        MUTANTS.append(Mutant(patches.__name__.strip("_"), breaks, patches, focus, first))
        return patches

    return enlist


def forgetting(kind: type[Asked]) -> tuple[object, str, Any]:
    """A coordinator that promises what is asked so, and does nothing about it."""
    ask = Coordinator.ask

    async def forgetful(self: Coordinator, saga_id: str, asked: Asked) -> Answered:
        return Answered(APPLIED) if isinstance(asked, kind) else await ask(self, saga_id, asked)

    return Coordinator, "ask", forgetful


def hunt(broken: Mutant, batches_max: int) -> Verdict | None:
    """The first verdict that finds a broken promise of those that the mutant breaks; None when none does."""
    with broken.alive():
        for number in range(broken.first, broken.first + batches_max):
            verdict = judge(run_batch(seed_of(_SEED, number), _SAGAS, broken.focus))
            if any(violation.promise in broken.breaks for violation in verdict.violations):
                return verdict
    return None
