"""Stories in which people act on the saga at any time, and a judge of its own for them.

The oracle's other judges foresee what the saga does by itself. Here only that is judged which holds whoever acts: nothing begins
while the saga is paused, an act counts once, a refused act leaves nothing, P1 to P9, and the truth at the end. People
tell the truth: who says that an effect is undone, or never was, has seen to it.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

from proof.core.breach import check
from proof.core.definitions import random_source
from proof.core.judge_calls import Calls
from proof.core.oracle import Oracle
from proof.core.world import BEGIN, Call, World
from proof.definitions import random_input
from saga_coordinator.saga.machine import act_entries as acts
from saga_coordinator.saga.machine import decide as core
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.effects import Decision, GoOn, Invoke, LookForEvent, LookForRoom, SetTimer
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    CancelAsked,
    Finding,
    Input,
    PauseAsked,
    PersonAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.transitions import ENDS, SETTLED, SagaStatus, StepStatus
from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_ACTS_MAX = 25
_BEGINNING = (log.AttemptStarted, log.WaitStarted, log.BlockOpened, log.BlockClosed, log.StepSkipped)


class ActingWorld(World):
    """A world with people in it."""

    acts = 0

    def run(self) -> None:
        for _ in range(self.random.choice([1, 2, 4, 8])):
            self.at(BEGIN + self.random.choice([3.0, 12.0, 50.0]) * self.random.random(), self.act)
        super().run()

    def decide(self, happened: Input, *, may_call: bool = True) -> None:
        super().decide(happened, may_call=may_call)
        assert self.state is not None
        if self.state.status is SagaStatus.NEEDS_ATTENTION and self.random.random() < 0.6:
            self.later(self.random.uniform(0, 5), self.act)

    def act(self) -> None:
        """Somebody does something, sensible or not."""
        if self.is_down:
            self.later(1, self.act)
            return
        self.acts += 1
        if self.acts > _ACTS_MAX:
            return
        self._tell_person(
            self.random.choice(["pause", "retry", "retry all", "skip", "resolve", "abandon", "cancel"])
        )

    def _tell_person(self, verb: str) -> None:
        assert self.state is not None
        known = [(key, self.state.step(key)) for key in self.foreseen.leaves]
        open_ = [key for key, step in known if step.status is StepStatus.FAILED or step.is_open]
        step = self.random.choice([*self.foreseen.leaves, *open_ * 4, "nowhere"])
        asked: Input
        match verb:
            case "pause":
                asked = PauseAsked(self._an_act())
                self.later(self.random.uniform(0, 15), self.resume)
            case "retry":
                asked = RetryAsked(step, self._an_act())
            case "retry all":
                asked = RetryAsked("", self._an_act())
            case "skip":
                asked = SkipAsked(step, {"ref": "skipped", "items": []}, self._an_act())
            case "resolve":
                asked = self._resolve(step)
            case "abandon" if self.random.random() < 0.4:
                asked = AbandonAsked(self._an_act())
            case _:
                asked = CancelAsked("changed my mind", "anna")
        self.decide(asked, may_call=self.random.random() > 0.05)

    def resume(self) -> None:
        if self.is_down:
            self.later(1, self.resume)
        elif self.state is not None and self.state.hold is not None and self.state.status not in ENDS:
            self.decide(ResumeAsked(self._an_act()), may_call=self.random.random() > 0.05)

    def _resolve(self, step: str) -> ResolveAsked:
        site = self.participants.sites.get(step)
        finding = self.random.choice(list(Finding))
        if site is not None:
            if finding is Finding.DONE and not site.has_effect:
                finding = Finding.NOT_DONE
            if finding is Finding.NOT_DONE and site.is_applied:
                finding = Finding.UNDONE
            asked = ResolveAsked(step, finding, None, self._an_act())
            if finding is not Finding.DONE and self._is_taken(asked) and self._is_calm(step):
                site.is_barred, site.is_undone, site.is_working = True, site.is_applied, False
        return ResolveAsked(step, finding, {"ref": f"{step}-1", "items": [step]}, self._an_act())

    def _is_taken(self, asked: ResolveAsked) -> bool:
        """Whether the saga would take the finding; the person sees to it only then."""
        decision = core.decide(self.definition, self.state, asked, self.now, 0.5)
        return not isinstance(decision.answer, Refusal)

    def _is_calm(self, step: str) -> bool:
        """Whether every attempt of the action is over; before that, a person cannot see to it that it has no effect."""
        assert isinstance(self.witness, ActingOracle)
        return all(
            call.started_at + call.invoke.timeout_seconds <= self.now
            or not (call.is_lost or call in self.open_calls)
            for call in self.witness.made
            if (call.invoke.step, call.invoke.operation) == (step, ACTION)
        )

    def _an_act(self) -> Act:
        act_id = f"act-{self._ticket}-{self.acts}-{self.random.random()}"
        return Act(act_id, Verb.RETRY_STEP, Subject(SubjectKind.SAGA, "saga"), reason="mended")


class ActingOracle(Oracle):
    """Judges a story in which people act."""

    def __init__(self, source: dict[str, Any], given: dict[str, Any]) -> None:
        super().__init__(source, given)
        self.is_paused = False
        self.never_done: set[str] = set()
        """Steps of which a person found so, and nothing else was heard since."""
        self.made: list[Call] = []
        self.inputs: dict[tuple[str, OperationKind], tuple[str, str]] = {}
        self.results: Counter[tuple[type[Input], str]] = Counter()

    def called(self, call: Call) -> None:
        if not call.invoke.is_poll:
            self.made.append(call)

    def decided(
        self, before: SagaState | None, happened: Input, decision: Decision, *, may_call: bool
    ) -> None:
        assert self.world is not None
        self.pairs[before and before.status, type(happened)] += 1
        self.log += decision.entries
        self._check_fold(before, decision)
        Calls(self.told, 0).check_intents(decision)
        self._check_pause(decision)
        self._follow_findings(decision)
        if isinstance(happened, PersonAsked):
            self._check_act(happened, decision, self.world)
        for invoke in (effect for effect in decision.effects if isinstance(effect, Invoke)):
            self._check_call(invoke, decision.state, self.world.now)
        if before is not None and before.status in ENDS and decision.state.status not in ENDS:
            check(
                any(isinstance(each, log.SagaRecalled) for each in decision.entries), "P1: an end is an end"
            )
        if may_call and not self.is_paused:
            self._check_moves(decision, self.world)

    def _follow_findings(self, decision: Decision) -> None:
        for entry in decision.entries:
            match entry:
                case acts.FoundNotDone(step):
                    self.never_done.add(step)
                case log.OutcomeLate(step) | log.AttemptSucceeded(step) | acts.FoundDone(step):
                    self.never_done.discard(step)
                case log.AttemptStarted(step, operation=OperationKind.ACTION):
                    self.never_done.discard(step)
                case _:
                    pass

    def _check_pause(self, decision: Decision) -> None:
        for entry in decision.entries:
            match entry:
                case acts.SagaPaused():
                    self.is_paused = True
                case acts.SagaResumed() | acts.SagaAbandoned() | log.SagaCompleted() | log.SagaCompensated():
                    self.is_paused = False
                case _:
                    check(not (self.is_paused and isinstance(entry, _BEGINNING)), f"{entry} while paused")
        asks = [effect for effect in decision.effects if isinstance(effect, Invoke | LookForRoom)]
        check(not (self.is_paused and asks), "a paused saga calls nobody")

    def _check_act(self, asked: PersonAsked, decision: Decision, world: World) -> None:
        self.results[type(asked), type(decision.answer).__name__] += 1
        if isinstance(decision.answer, Refusal):
            left = [each for each in decision.entries if isinstance(each, acts.StepAct | acts.SagaAct)]
            check(not left, f"{asked} is refused, and leaves {left}")
            check(decision.answer.message, "a refusal says why")
            return
        again = core.decide(world.definition, decision.state, asked, world.now, 0.5, may_call=False)
        done = [entry for entry in again.entries if isinstance(entry, acts.StepAct | acts.SagaAct)]
        check(isinstance(again.answer, NotApplied) and not done, f"P9: {asked} counts twice")

    def _check_call(self, invoke: Invoke, state: SagaState, now: float) -> None:
        operation = (invoke.step, invoke.operation)
        said = (invoke.idempotency_key, json.dumps(invoke.input))
        check(self.inputs.setdefault(operation, said) == said, f"P5: {operation} has another key or input")
        if invoke.operation is ACTION or invoke.is_poll:
            return
        for call in self.made:
            is_open = call.ends_at > now and (
                call.is_lost or (self.world is not None and call in self.world.open_calls)
            )
            is_its_action = call.invoke.step == invoke.step and call.invoke.operation is ACTION
            check(
                not (is_open and is_its_action), f"P4: {invoke.step} is undone while its action is in flight"
            )
        if invoke.step in self.never_done and not self.told.steps[invoke.step].get("compensate_on_refusal"):
            check(False, f"{invoke.step} is undone, and a person found that it was never done")
        for later in self.told.after[invoke.step]:
            known = state.step(later)
            instance = self.told.instances[later]
            is_standing = known.effect is EffectKnown.CERTAIN and known.status is not StepStatus.COMPENSATED
            is_left = known.is_let_stand or instance.is_undo_optional or not instance.has_undo
            check(not is_standing or is_left, f"P3: {invoke.step} is undone before {later}")

    def _check_moves(self, decision: Decision, world: World) -> None:
        if decision.state.status in SETTLED:
            return
        moving = (Invoke, LookForRoom, LookForEvent, SetTimer, GoOn)
        is_moving = any(isinstance(effect, moving) for effect in decision.effects) or world.open_calls
        waits = [step for step in decision.state.steps.values() if step.status is StepStatus.WAITING]
        held = [key for key, _ in world.looking if decision.state.step(key).is_held]
        check(
            is_moving or waits or held, f"P1: nothing will ever happen to this saga again: {decision.state}"
        )

    def check_truth(self, world: World) -> None:
        """After everything has arrived: what the participants really did, against what the saga says."""
        state = world.state
        assert state is not None
        sites = world.participants.sites
        real = {key for key, site in sites.items() if site.has_effect}
        real -= {key for key in real if self.told.steps[key].get("read_only")}
        match state.status:
            case SagaStatus.COMPLETED:
                excused = {entry.step for entry in self.log if isinstance(entry, _EXCUSING)}
                undone = {key for key, site in sites.items() if not site.is_applied} - excused
                check(not undone, f"P2: completed, and {undone} never happened")
                check(not any(site.is_undone for site in sites.values()), "P2: completed, but undone")
            case SagaStatus.COMPENSATED:
                check(not real, f"P2: compensated, but {real} really stand")
            case _:
                check(
                    real <= set(state.remaining),
                    f"P2: {real - set(state.remaining)} stand and are not listed",
                )


_EXCUSING = (
    log.StepSkipped,
    log.StepFailed,
    log.InputInvalid,
    log.AttemptRefused,
    log.AttemptUnresolved,
    acts.OperationSkipped,
    acts.FoundNotDone,
)
"""Entries after which a completed saga need not have the step's effect."""


def play_with_people(random: Random, *, about: tuple[str, ...] = ()) -> ActingOracle:
    """Plays one random story in which people act. Raises `Breach`, or another AssertionError of the world's.

    `about`: see `random_source`.
    """
    source = random_source(random, about=about)
    given = random_input(random.randrange(12), random, begins_at=BEGIN)
    oracle = ActingOracle(source, given)
    oracle.world = world = ActingWorld(random, source, given, oracle)
    world.run()
    oracle.check_truth(world)
    assert world.state is not None
    oracle.check_log(world.state)
    return oracle
