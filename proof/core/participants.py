"""The participants of one saga's world: what they do, and the truth about it.

They keep what `saga.v1.ParticipantService` asks of them: a key seen before is answered as before, an action that comes after its
compensation is refused. The rest is chance, by the world's habits: they refuse, answer PENDING, report late, twice, never, or
before the call has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from proof.core.habits import Habits
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.inputs import OutcomeReported
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


@dataclass
class Site:
    """What one step's participant knows: the truth about its effect."""

    is_applied: bool = False
    is_undone: bool = False
    is_barred: bool = False
    """Its compensation has come: the action is refused from now on."""
    is_working: bool = False
    """It accepted the action and works on it."""
    is_undoing: bool = False
    """It accepted the compensation and works on it."""
    cannot_be_undone: bool = False
    refused_before: bool = False
    forgets_refusals: bool = False

    @property
    def has_effect(self) -> bool:
        return self.is_applied and not self.is_undone


class Participants:
    """Those of all steps. `later(seconds, act)` lets something happen then; `tell` brings a report to the coordinator."""

    def __init__(
        self,
        steps: Iterable[str],
        random: Random,
        habits: Habits,
        later: Callable[[float, Callable[[], None]], None],
        tell: Callable[[OutcomeReported], None],
    ) -> None:
        self.sites = {key: Site(forgets_refusals=random.random() < 0.3) for key in steps}
        self.told_success: set[str] = set()
        """Steps of whose success the coordinator has heard."""
        self._random = random
        self._habits = habits
        self._later = later
        self._tell = tell

    def work(self, invoke: Invoke) -> Outcome:
        if invoke.is_poll:
            return self._look_after(invoke)
        return self._execute(invoke) if invoke.operation is ACTION else self._compensate(invoke)

    def _execute(self, invoke: Invoke) -> Outcome:
        site = self.sites[invoke.step]
        if site.is_barred:
            return _refused("too late: it has been compensated")
        if site.is_applied:
            return _succeeded(invoke.step)
        if site.refused_before and not site.forgets_refusals:
            return _refused("as I said before")
        if site.is_working:
            return Pending()
        if _is_child(invoke) or self._random.random() < self._habits.pending:
            site.is_working = True
            quick = self._random.random() < self._habits.quick_report
            work_seconds = self._random.uniform(0, 0.2 if quick else 12)
            if quick:
                self._finish_work(invoke)  # and reports before this call is answered
            else:
                self._later(work_seconds, lambda: self._finish_work(invoke))
            return Pending()
        return self._do(invoke)

    def _do(self, invoke: Invoke) -> Outcome:
        site = self.sites[invoke.step]
        if self._random.random() < self._habits.refuse:
            site.refused_before = True
            return _refused("no")
        site.is_applied = True
        return _succeeded(invoke.step)

    def _finish_work(self, invoke: Invoke) -> None:
        site = self.sites[invoke.step]
        site.is_working = False
        outcome: Outcome
        if site.is_barred:
            outcome = _refused("compensated meanwhile")
        elif site.is_applied:
            outcome = _succeeded(invoke.step)
        elif self._random.random() < 0.1 and not _is_child(invoke):
            outcome = Unknown(Cause("UNKNOWN", "cannot say"))
        else:
            outcome = self._do(invoke)
        self._report(OutcomeReported(invoke.step, ACTION, outcome))

    def _look_after(self, invoke: Invoke) -> Outcome:
        """Tells what has become of a child that was started, or is being undone."""
        site = self.sites[invoke.step]
        if invoke.operation is COMPENSATION:
            if site.cannot_be_undone:
                return _refused("it turns out that this cannot be undone")
            return Succeeded() if site.is_undone else Pending()
        if site.is_barred:
            return _refused("compensated meanwhile")
        if site.is_applied:
            return _succeeded(invoke.step)
        return _refused("no") if site.refused_before and not site.is_working else Pending()

    def _compensate(self, invoke: Invoke) -> Outcome:
        site = self.sites[invoke.step]
        if _is_child(invoke):
            answer = self._look_after(invoke)
            if answer == Pending() and not site.is_undoing:
                site.is_undoing = True
                self._later(self._random.uniform(0, 12), lambda: self._finish_undoing(invoke))
            return answer
        if self._random.random() < self._habits.refuse / 4:
            return _refused("cannot be undone")
        if self._random.random() < self._habits.pending / 2:
            self._later(self._random.uniform(0, 12), lambda: self._finish_undoing(invoke))
            return Pending()
        if invoke.step in self.told_success and self._random.random() < self._habits.refuse / 8:
            return Refused(Cause("NOT_FOUND", "asked the wrong replica"))
        was_known = site.is_applied
        site.is_barred = site.is_undone = True
        if was_known or self._random.random() < 0.5:
            return Succeeded()
        return Refused(Cause("NOT_FOUND", "nothing to undo"))

    def _finish_undoing(self, invoke: Invoke) -> None:
        site = self.sites[invoke.step]
        outcome: Outcome
        if self._random.random() < self._habits.refuse / 2:
            outcome = _refused("it turns out that this cannot be undone")
            site.cannot_be_undone = True
        else:
            was_known = site.is_applied
            site.is_barred = site.is_undone = True
            outcome = Succeeded() if was_known else Refused(Cause("NOT_FOUND", "nothing to undo"))
        self._report(OutcomeReported(invoke.step, COMPENSATION, outcome))

    def _report(self, report: OutcomeReported) -> None:
        if self._random.random() < self._habits.report_lost:
            return
        for _ in range(self._random.choice([1, 1, 2])):
            seconds = self._random.choice([0.0, self._random.uniform(0, 3)])
            self._later(seconds, lambda: self._tell(report))


def _is_child(invoke: Invoke) -> bool:
    return invoke.participant == "@saga"


def _refused(message: str) -> Refused:
    return Refused(Cause("FAILED_PRECONDITION", message))


def _succeeded(step: str) -> Succeeded:
    return Succeeded({"ref": f"{step}-1", "items": [step]})
