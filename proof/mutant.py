"""What a broken program is: functions, methods and tables of it with others in their place, while a block runs.

What is broken is named by the thing itself and not by a string, so that whoever renames or moves it is told by the checker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

from proof.definitions import EVERYTHING, Focus
from saga_coordinator.saga.machine import agenda
from saga_coordinator.saga.machine.decide import HANDLERS
from saga_coordinator.saga.machine.entries import Entry, StepEntry, is_about_step
from saga_coordinator.saga.machine.inputs import Input
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import SagaStatus

Patches = Iterator[AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`patches` break the program. The fault shows where much is about `focus`; `breaks` and `first` are the simulation's:

    the promises of which it must find at least one broken, and the batch with which it begins to look.
    """

    name: str
    patches: Callable[[], Patches]
    focus: Focus = EVERYTHING
    breaks: tuple[str, ...] = ()
    first: int = 0

    @contextmanager
    def alive(self) -> Iterator[None]:
        """The program is broken inside."""
        with ExitStack() as stack:
            for each in self.patches():
                stack.enter_context(each)
            yield


class Mutants(list[Mutant]):
    """Those that one file makes."""

    def broken(
        self, *breaks: str, about: tuple[str, ...] = (), first: int = 0, **focus: Any
    ) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
        """Enlists a function that says what to put in the place of what. `focus`: further fields of it."""

        def enlist(patches: Callable[[], Patches]) -> Callable[[], Patches]:
            self.append(Mutant(patches.__name__, patches, Focus(about, **focus), breaks, first))
            return patches

        return enlist

    def replaced(
        self, *breaks: str, about: tuple[str, ...] = (), **broken: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Enlists those that have one thing in the place of another, each by its name."""
        for name, patch_of in broken.items():
            self.append(Mutant(name, partial(_only, patch_of), Focus(about), breaks))


def _only(patch_of: Callable[[], AbstractContextManager[Any]]) -> Patches:
    yield patch_of()


@contextmanager
def instead_of(seam: Any, broken: Any, *, within: ModuleType | None = None) -> Iterator[None]:
    """A function, a method or a property of the program is another one, wherever it goes by its name, or `within` one module."""
    function = getattr(seam, "fget", None) or getattr(seam, "func", None) or seam
    *owners, name = function.__qualname__.split(".")
    places: list[Any] = [sys.modules[function.__module__]]
    if owners:
        for owner in owners:
            places = [getattr(places[0], owner)]
    elif within is not None:
        places = [within]
    else:
        modules = [each for key, each in sys.modules.items() if key.startswith("saga_coordinator.")]
        places += [each for each in modules if each not in places and vars(each).get(name) is seam]
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(patch.object(place, name, broken))
        yield


def handled(by: Callable[[Any, Any], None], what: type[Input], *statuses: SagaStatus) -> Any:
    """An input is handled otherwise in these statuses of a saga."""
    return patch.dict(HANDLERS, dict.fromkeys(((status, what) for status in statuses), by))


def folded(change: Callable[[StepState, StepEntry, StepState], StepState]) -> AbstractContextManager[None]:
    """`change(before, entry, after)` says what the fold should have made of a step by an entry."""

    def applied(saga_id: str, state: SagaState | None, entry: Entry) -> SagaState:
        after = apply(saga_id, state, entry)
        if state is None or not is_about_step(entry):
            return after
        made, wanted = after.step(entry.step), change(state.step(entry.step), entry, after.step(entry.step))
        return after if wanted == made else replace(after, steps={**after.steps, entry.step: wanted})

    return instead_of(apply, applied)


def never_due(
    field: str, *, if_: Callable[[StepState], bool] = lambda _: True
) -> AbstractContextManager[None]:
    """Nothing is due any more because of that field of a step."""
    instants = agenda.instants

    def without(step: StepState, status: SagaStatus) -> agenda.Instants:
        quiet: Any = {field: None} if if_(step) else {}
        return instants(replace(step, **quiet), status)

    return instead_of(agenda.instants, without)
