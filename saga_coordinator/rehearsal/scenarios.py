"""Rehearses every failure that the steps of a definition can meet, one by one or in pairs, each from start to end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from saga_coordinator.rehearsal.answers import Answers
from saga_coordinator.rehearsal.otherwise import answers_for, lacking
from saga_coordinator.rehearsal.promises import Breach, breaches
from saga_coordinator.rehearsal.rehearse import (
    CALL_SECONDS,
    STARTS_AT,
    Call,
    EndlessRehearsal,
    Rehearsal,
    Reply,
    Soon,
    is_stuck,
)
from saga_coordinator.rehearsal.variants import Variant, variants
from saga_coordinator.rehearsal.ways import Way, assumed, gone, shortened, ways
from saga_coordinator.saga.definition.model import Approval, AwaitEvent, Definition, OnFailure, Operation
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import InputInvalid, SagaCompleted, StepFailed, WaitStarted
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    CancelAsked,
    EventArrived,
    OutcomeReported,
    OwnershipGained,
)
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.errors import ExpressionError
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    REFUSING_STATUSES,
    Cause,
    CauseCode,
    Pending,
    Refused,
    Succeeded,
    Unknown,
)

WAITING = "WAITING"
"""The end of a scenario in which the saga waits for something that never comes, for ever."""

_WAIT_SECONDS = 1.0
_ANYBODY = "someone"


class FaultKind(StrEnum):
    """The kinds of faults: of a step's action, of its compensation, or of what the step waits for."""

    REFUSED = "refused"
    UNKNOWN = "never answers"
    UNKNOWN_ONCE = "answers only the second time"
    NOT_RETRIED = "fails with a status that is not retried"
    LATE = "never answers, then reports success"
    UNREPORTED = "accepts, then never reports"
    DEADLINE = "the saga's deadline passes meanwhile"
    CANCELLED = "the saga is cancelled meanwhile"
    CRASH = "the coordinator crashes meanwhile"
    UNDO_REFUSED = "compensation refused"
    UNDO_UNKNOWN = "compensation never answers"
    UNDO_UNREPORTED = "compensation accepts, then never reports"
    NO_EVENT = "the event never comes"
    REJECTED = "rejected"
    UNDECIDED = "nobody decides"


_OF_ACTIONS = (
    FaultKind.REFUSED,
    FaultKind.UNKNOWN,
    FaultKind.UNKNOWN_ONCE,
    FaultKind.LATE,
    FaultKind.UNREPORTED,
    FaultKind.CRASH,
    FaultKind.CANCELLED,
)
_OF_CHILDREN = (FaultKind.REFUSED, FaultKind.UNREPORTED, FaultKind.CRASH, FaultKind.CANCELLED)
_OF_UNDOING = (FaultKind.UNDO_REFUSED, FaultKind.UNDO_UNKNOWN, FaultKind.UNDO_UNREPORTED)
_ONLY_ONCE = frozenset({FaultKind.UNKNOWN_ONCE, FaultKind.CRASH, FaultKind.CANCELLED})


class Mishap(NamedTuple):
    """A fault of one instance of a step."""

    key: str
    kind: FaultKind

    def __str__(self) -> str:
        return f"{self.key}: {self.kind}"

    @property
    def operation(self) -> OperationKind:
        return OperationKind.COMPENSATION if self.kind in _OF_UNDOING else OperationKind.ACTION


@dataclass(frozen=True, slots=True)
class Scenario:
    """The faults that happen to one saga. `variant` says what was assumed of conditions so that the faults can happen.

    `is_cause_added`: the last fault is the fault that the scenario shows; the fault before it only makes the saga go back.
    """

    faults: tuple[Mishap, ...]
    variant: str = ""
    is_cause_added: bool = False

    def __str__(self) -> str:
        what = " + ".join(str(fault) for fault in self.faults) or "nothing goes wrong"
        return f"{what} ({self.variant})" if self.variant else what


@dataclass(frozen=True, slots=True)
class Story:
    """The story of a rehearsed scenario. `end` is a saga status or WAITING; `problems` are expressions that failed.

    `is_played` tells whether every fault of the scenario happened: the first one may keep the second from happening.
    """

    scenario: Scenario
    end: str
    calls: tuple[Call, ...]
    remaining: tuple[str, ...]
    failure: Cause | None
    breaches: tuple[Breach, ...]
    problems: tuple[str, ...]
    seconds: float
    is_played: bool
    ways: frozenset[Way] = frozenset()
    """The ways that the conditions went."""

    @property
    def is_broken(self) -> bool:
        return bool(self.breaches or self.problems)

    @property
    def needs_people(self) -> bool:
        return self.end in (SagaStatus.NEEDS_ATTENTION, WAITING)


@dataclass
class Simulation:
    """All stories. `unreached` are the steps that no scenario came to. `untried` are the ways that the conditions of the other
    steps went in no scenario. `scenarios_left` is the number of scenarios beyond the limit, which were not rehearsed.
    """

    stories: list[Story] = field(default_factory=list)
    unreached: tuple[str, ...] = ()
    untried: tuple[Way, ...] = ()
    scenarios_left: int = 0


def simulate(
    definition: Definition, answers: Answers, *, in_pairs: bool, limit: int, is_forcing: bool
) -> Simulation:
    """Rehearses every failure, and with `in_pairs` every pair of failures, of one saga with those answers.

    Every condition is made to go every way that it can, too: by other made-up values, or else, with `is_forcing`, by assuming
    that it does. `limit` bounds the number of rehearsals. `is_forcing`: conditions that keep steps from running are assumed to
    hold where the saga would not come to those steps otherwise.
    """
    found, unreached = variants(definition, lambda other: _reached(other, answers), is_forcing=is_forcing)
    stages = [_Stage(variant, answers) for variant in found]
    performance = _Performance(definition, limit)
    for stage in stages:
        performance.play(stage, stage.singles())
    performance.go_every_way(answers, is_forcing=is_forcing)
    for what, others in lacking(answers):
        performance.look_at(Variant(definition, what, frozenset()), others)
    if in_pairs:
        for stage in stages:
            performance.play(stage, stage.pairs())
    untried = tuple(
        way for way in ways(definition) if way not in performance.ways and way.step not in unreached
    )
    return Simulation(performance.stories, unreached, untried, performance.scenarios_left)


class _Performance:
    """The stories so far, and the ways that the conditions of `definition` went in them."""

    def __init__(self, definition: Definition, limit: int) -> None:
        self.stories: list[Story] = []
        self.ways: set[Way] = set()
        self.scenarios_left = 0
        self._definition = definition
        self._room = limit

    def play(self, stage: _Stage, scenarios: Iterable[Scenario]) -> None:
        """Rehearses them, as far as there is room."""
        for scenario in scenarios:
            if not self._room:
                self.scenarios_left += 1
                continue
            self._room -= 1
            story = stage.play(scenario)
            if story.is_played:
                self.stories.append(story)
                self.ways |= story.ways

    def look_at(self, variant: Variant, answers: Answers, aim: Way | None = None) -> None:
        """Rehearses the variant going well, and being undone from its last call."""
        try:
            stage = _Stage(variant, answers, aim)
        except (EndlessRehearsal, ExpressionError) as error:
            self.stories.append(_broken_off(Scenario((), variant.name), error))
            return
        self.play(stage, stage.outline())

    def go_every_way(self, answers: Answers, *, is_forcing: bool) -> None:
        """Has every condition go the ways that it did not go yet."""
        for way in ways(self._definition):
            definition = shortened(self._definition, way)
            if way not in self.ways and (others := answers_for(answers, way)) is not None:
                self.look_at(Variant(definition, f"with values on which {way}", frozenset()), others, way)
            if way not in self.ways and is_forcing:
                variant = Variant(assumed(definition, way), f"assuming that {way}", frozenset())
                self.look_at(variant, answers, way)


def _reached(definition: Definition, answers: Answers) -> frozenset[str]:
    rehearsal = Rehearsal(definition, _Cast(definition, answers, ()))
    rehearsal.start(answers.input.value())
    rehearsal.run()
    return frozenset(rehearsal.state.steps)


class _Stage:
    """A variant of the definition, and the scenarios that are worth rehearsing with it."""

    def __init__(self, variant: Variant, answers: Answers, aim: Way | None = None) -> None:
        self._variant = variant
        self._aim = aim
        self._definition = variant.definition
        self._answers = answers
        happy = self._rehearsed(())[0]
        self._calls = [call for call in happy.calls if call.is_action and not call.invoke.is_poll]
        self._calls = list({call.step: call for call in reversed(self._calls)}.values())[::-1]
        self._waits = [key for key, step in happy.state.steps.items() if step.wait is not None]
        self._started_at = {call.step: call.started_at for call in self._calls}

    def singles(self) -> Iterator[Scenario]:
        """The scenario without a fault, and then a scenario for each fault of a step that no earlier variant came to."""
        yield Scenario((), self._variant.name)
        for fault in self._faults():
            if self._is_new(fault):
                with_cause = self._with_cause(fault)
                yield Scenario(with_cause, self._variant.name, is_cause_added=len(with_cause) > 1)

    def outline(self) -> Iterator[Scenario]:
        """The scenario without a fault, and then a scenario in which everything is undone: the saga is cancelled during the
        last call at which it can be.
        """
        yield Scenario((), self._variant.name)
        for call in reversed(self._calls):
            step = self._definition.step(call.step)
            if not step.is_pivot and not self._definition.is_after_pivot(call.step):
                yield Scenario((Mishap(call.step, FaultKind.CANCELLED),), self._variant.name)
                return

    def pairs(self) -> Iterator[Scenario]:
        """A scenario for each pair of faults of different operations. At least one of the faults is of a step that no earlier
        variant reached.
        """
        told = {self._with_cause(fault) for fault in self._faults()}
        for one, other in itertools.combinations(self._faults(), 2):
            is_same = (one.key, one.operation) == (other.key, other.operation)
            if is_same or not (self._is_new(one) or self._is_new(other)):
                continue
            pair = self._pair(one, other)
            if pair not in told:
                told.add(pair)
                yield Scenario(pair, self._variant.name)

    def _is_new(self, fault: Mishap) -> bool:
        return self._definition.step(fault.key).name in self._variant.new_steps

    def _pair(self, one: Mishap, other: Mishap) -> tuple[Mishap, ...]:
        if one.operation is other.operation is OperationKind.COMPENSATION:
            return tuple(dict.fromkeys((*self._with_cause(one), *self._with_cause(other))))
        return (one, other)

    def _faults(self) -> Iterator[Mishap]:
        for call in self._calls:
            step = self._definition.step(call.step)
            kinds = _OF_CHILDREN if step.operation(OperationKind.ACTION).is_child else _OF_ACTIONS
            yield from (Mishap(call.step, kind) for kind in kinds)
            if _status_not_retried(step.operation(OperationKind.ACTION)) is not None:
                yield Mishap(call.step, FaultKind.NOT_RETRIED)
            if self._definition.deadline_seconds is not None:
                yield Mishap(call.step, FaultKind.DEADLINE)
            if step.compensation is not None:
                undoing = _OF_UNDOING[:1] if step.compensation.is_child else _OF_UNDOING
                yield from (Mishap(call.step, kind) for kind in undoing)
        for key in self._waits:
            match self._definition.step(key).action:
                case AwaitEvent():
                    yield Mishap(key, FaultKind.NO_EVENT)
                case Approval():
                    yield Mishap(key, FaultKind.REJECTED)
                    yield Mishap(key, FaultKind.UNDECIDED)
                case _:
                    pass

    def _with_cause(self, fault: Mishap) -> tuple[Mishap, ...]:
        """The fault. For a fault of a compensation, the failure that makes the saga compensate comes first."""
        if fault.operation is OperationKind.ACTION:
            return (fault,)
        at = self._started_at[fault.key]
        for call in reversed(self._calls):
            if call.started_at > at and self._turns(call.step):
                return (Mishap(call.step, FaultKind.REFUSED), fault)
        return (Mishap(fault.key, FaultKind.UNKNOWN), fault)

    def _turns(self, key: str) -> bool:
        step = self._definition.step(key)
        return step.on_failure is OnFailure.COMPENSATE and not self._definition.is_after_pivot(key)

    def play(self, scenario: Scenario) -> Story:
        try:
            rehearsal, cast = self._rehearsed(scenario.faults)
        except (EndlessRehearsal, ExpressionError) as error:
            return _broken_off(scenario, error)
        return Story(
            scenario=scenario,
            end=WAITING if is_stuck(rehearsal) else str(rehearsal.state.status),
            calls=tuple(rehearsal.calls),
            remaining=rehearsal.state.remaining,
            failure=rehearsal.state.failure,
            breaches=tuple(breaches(rehearsal)),
            problems=tuple(_problems(rehearsal)),
            seconds=rehearsal.now - STARTS_AT,
            is_played=cast.has_played_all,
            ways=frozenset(gone(self._definition, rehearsal.log, self._aim)),
        )

    def _rehearsed(self, faults: Sequence[Mishap]) -> tuple[Rehearsal, _Cast]:
        cast = _Cast(self._definition, self._answers, faults)
        rehearsal = Rehearsal(self._definition, cast)
        late = [fault for fault in faults if fault.kind is FaultKind.DEADLINE]
        # The starter's deadline passes in the middle of the step's first attempt.
        seconds = min(
            (self._started_at[fault.key] - STARTS_AT + CALL_SECONDS / 2 for fault in late), default=None
        )
        rehearsal.start(self._answers.input.value(), deadline_seconds=seconds)
        cast.report_late(rehearsal)
        while rehearsal.next_at() is not None:
            rehearsal.move()
            cast.report_late(rehearsal)
        return rehearsal, cast


def _broken_off(scenario: Scenario, error: Exception) -> Story:
    return Story(scenario, "", (), (), None, (), (str(error),), 0.0, is_played=True)


class _Cast:
    """Participants and people, who play a scenario."""

    def __init__(self, definition: Definition, answers: Answers, faults: Iterable[Mishap]) -> None:
        self._definition = definition
        self._answers = answers
        self._faults = {(fault.key, fault.operation): fault for fault in faults}
        self._played: set[Mishap] = set()
        self._unreported = {fault.key for fault in faults if fault.kind is FaultKind.LATE}

    @property
    def has_played_all(self) -> bool:
        return self._played == set(self._faults.values())

    def _fault(self, key: str, operation: OperationKind) -> FaultKind | None:
        fault = self._faults.get((key, operation))
        if fault is None:
            return None
        self._played.add(fault)
        return fault.kind

    def answer(self, invoke: Invoke, now: float) -> Reply:
        kind = self._fault(invoke.step, invoke.operation)
        if kind in _ONLY_ONCE and invoke.attempt > 1:
            kind = None
        operation = self._definition.step(invoke.step).operation(invoke.operation)
        match kind:
            case FaultKind.REFUSED | FaultKind.UNDO_REFUSED:
                return Reply(Refused(Cause(_refusing_status(operation), "refused, as the scenario has it")))
            case FaultKind.UNKNOWN_ONCE if operation.retry.retry_on:
                status = min(operation.retry.retry_on)
                return Reply(Unknown(Cause(status, "unknown, as the scenario has it"), is_explicit=True))
            case FaultKind.NOT_RETRIED:
                status = _status_not_retried(operation) or "UNKNOWN"
                return Reply(Unknown(Cause(status, "unknown, as the scenario has it"), is_explicit=True))
            case FaultKind.UNKNOWN | FaultKind.UNKNOWN_ONCE | FaultKind.LATE | FaultKind.UNDO_UNKNOWN:
                return Reply(Succeeded(), math.inf)
            case FaultKind.UNREPORTED | FaultKind.UNDO_UNREPORTED:
                return Reply(Pending())
            case FaultKind.CRASH:
                return Reply(None, later=(Soon(CALL_SECONDS, OwnershipGained("the crashed one")),))
            case FaultKind.CANCELLED:
                return Reply(self._success(invoke), later=(Soon(CALL_SECONDS / 2, CancelAsked("cancelled")),))
            case _:
                return Reply(self._success(invoke))

    def _success(self, invoke: Invoke) -> Succeeded:
        is_action = invoke.operation is OperationKind.ACTION
        return Succeeded(self._answers.output(invoke.step) if is_action else None)

    def await_outside(self, wait: WaitStarted, now: float) -> Sequence[Soon]:
        seconds = _WAIT_SECONDS if wait.until is None else min(_WAIT_SECONDS, (wait.until - now) / 2)
        kind = self._fault(wait.step, OperationKind.ACTION)
        match self._definition.step(wait.step).action:
            case AwaitEvent(event=name) if kind is None:
                payload = self._answers.output(wait.step)
                return (
                    Soon(seconds, EventArrived(f"of-{wait.step}", name, wait.correlation or "", payload)),
                )
            case Approval(approvers=approvers) if kind is not FaultKind.UNDECIDED:
                who = approvers[0] if approvers else _ANYBODY
                is_approved = kind is not FaultKind.REJECTED
                return (Soon(seconds, ApprovalDecided(wait.step, is_approved, who)),)
            case _:
                return ()

    def report_late(self, rehearsal: Rehearsal) -> None:
        """Reports the success of operations that were given up, as soon as they are given up."""
        for key in tuple(self._unreported):
            step = rehearsal.state.step(key)
            is_given_up = not (step.is_open and step.operation is OperationKind.ACTION)
            if is_given_up and step.effect is EffectKnown.POSSIBLE:
                self._unreported.remove(key)
                output = self._answers.output(key)
                rehearsal.hear(OutcomeReported(key, OperationKind.ACTION, Succeeded(output)))


def _status_not_retried(operation: Operation) -> str | None:
    """A status after which the operation fails at once and its outcome stays unknown; None if there is no such status."""
    if not operation.retry.retry_on or operation.retry.max_attempts == 1:
        return None
    taken = {*operation.retry.retry_on, *operation.outcomes}
    return next(
        (status for status in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED") if status not in taken), None
    )


def _refusing_status(operation: Operation) -> str:
    if operation.is_child:
        return CauseCode.CHILD_FAILED
    plain = ("FAILED_PRECONDITION", *sorted(REFUSING_STATUSES - {"NOT_FOUND"}))
    return next((status for status in plain if status not in operation.outcomes), plain[0])


def _problems(rehearsal: Rehearsal) -> Iterator[str]:
    """Expressions that failed."""
    for entry in rehearsal.log:
        match entry:
            case StepFailed(step, Cause(CauseCode.EXPRESSION_INVALID, message)):
                yield f"{step}: {message}"
            case InputInvalid(step, operation, _, cause):
                yield f"the input of {_named(step, operation)}: {cause.message}"
            case SagaCompleted(output_problem=str() as message):
                yield f"the saga's output: {message}"
            case _:
                pass


def _named(step: str, operation: OperationKind) -> str:
    return step if operation is OperationKind.ACTION else f"undo {step}"
