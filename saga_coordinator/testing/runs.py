"""Runs one saga under test, to its end or step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga_coordinator.config import read_documents
from saga_coordinator.rehearsal.promises import breaches
from saga_coordinator.rehearsal.rehearse import STARTS_AT, Rehearsal, Reply, Soon
from saga_coordinator.saga.definition.model import (
    Approval,
    AwaitEvent,
    Definition,
    Delay,
    Operation,
    step_name,
)
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.effects import Decision, Invoke
from saga_coordinator.saga.machine.entries import Entry, WaitStarted
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    CancelAsked,
    EventArrived,
    Input,
    OutcomeReported,
    OwnershipGained,
)
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words import outcome as outcomes
from saga_coordinator.saga.words.errors import InvalidRequest, Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.outcome import Cause
from saga_coordinator.testing.faults import Failing, reported_outcome
from saga_coordinator.testing.participants import Call, Fake, Participants, as_json

WAIT_SECONDS = 1.0
"""The seconds until the events and decisions come that a run was given."""

Faults = Mapping[str, Failing | Sequence[Failing | None]]
"""The failures of attempts, by the call's name: `charge` or `undo charge`, for all instances or for one.

A single failure applies to every attempt. Each of several failures applies to one attempt; the attempts after them go well.
None is an attempt that goes well.
"""


class PromiseBroken(AssertionError):
    """The coordinator itself broke a promise. That is a defect of the coordinator, not of the definition."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A person's decision on an approval."""

    is_approved: bool = True
    by: str = ""
    """The person's name. Empty for the first approver."""
    comment: str = ""


def rehearse(
    definition: str | Path | Mapping[str, Any] | Definition,
    saga_input: Any = None,
    participants: Participants | Mapping[str, Fake] | None = None,
    *,
    faults: Faults | None = None,
    events: Mapping[str, Any] | None = None,
    approvals: Mapping[str, bool | Decided] | None = None,
    labels: Mapping[str, str] | None = None,
    deadline_seconds: float | None = None,
) -> Run:
    """Runs a saga until nothing more happens to it by itself, skipping the time, and returns it.

    Args:
        definition: a YAML or JSON file with one definition, or the definition itself.
        saga_input: must fit the definition's input_schema.
        participants: the fakes; a mapping does for a few.
        faults: see `Faults`.
        events: by the name of the step that awaits it, the payload of the event that comes a second later.
        approvals: by the name of the step, what a person decides a second later.
        labels: the starter's.
        deadline_seconds: the starter's.

    Raises:
        InvalidDefinition: with every fault of the definition.
        InvalidRequest: the input does not fit the input_schema.
        NoFake: a participant was called that has no fake.
        PromiseBroken: never, one hopes.
    """
    run = begin(
        definition,
        saga_input,
        participants,
        faults=faults,
        events=events,
        approvals=approvals,
        labels=labels,
        deadline_seconds=deadline_seconds,
    )
    run.finish()
    return run


def begin(
    definition: str | Path | Mapping[str, Any] | Definition,
    saga_input: Any = None,
    participants: Participants | Mapping[str, Fake] | None = None,
    *,
    faults: Faults | None = None,
    events: Mapping[str, Any] | None = None,
    approvals: Mapping[str, bool | Decided] | None = None,
    labels: Mapping[str, str] | None = None,
    deadline_seconds: float | None = None,
) -> Run:
    """Starts a saga as `rehearse` does, but lets no time pass: the first calls are in flight. Drive the saga with the run's
    methods.
    """
    parsed = definition if isinstance(definition, Definition) else _parse(definition)
    given = as_json(saga_input, "the input")
    if parsed.input_schema is not None and (problems := parsed.input_schema.faults(given)):
        raise InvalidRequest(problems)
    known = participants if isinstance(participants, Participants) else Participants(participants)
    stage = _Stage(parsed, known, faults or {}, events or {}, approvals or {})
    rehearsal = Rehearsal(parsed, stage)
    rehearsal.start(given, labels, deadline_seconds)
    return Run(rehearsal, stage)


def _parse(definition: str | Path | Mapping[str, Any]) -> Definition:
    if isinstance(definition, Mapping):
        return parse_definition(as_json(dict(definition), "the definition"))
    documents = read_documents(Path(definition))
    if len(documents) != 1:
        raise ValueError(f"{definition} holds {len(documents)} definitions; pass the one that is meant")
    return parse_definition(documents[0].content)


class Run:
    """A saga under test. Its properties show the present moment. The methods that drive the saga return the run itself."""

    def __init__(self, rehearsal: Rehearsal, stage: _Stage) -> None:
        self._rehearsal = rehearsal
        self._stage = stage

    # What there is to see.

    @property
    def status(self) -> SagaStatus:
        """The saga's status. It can be compared with text: `run.status == "COMPENSATED"`."""
        return self._rehearsal.state.status

    @property
    def output(self) -> Any:
        return self._rehearsal.state.output

    @property
    def failure(self) -> Cause | None:
        """Why the saga failed: `code`, `message` and `step`; None if it did not."""
        return self._rehearsal.state.failure

    @property
    def remaining(self) -> tuple[str, ...]:
        """The steps whose effect stands and that a person has to look after."""
        return self._rehearsal.state.remaining

    @property
    def calls(self) -> list[Call]:
        """Every attempt made so far, in order."""
        return self._stage.calls

    @property
    def names(self) -> list[str]:
        """The names of the calls in order, `undo charge` for a compensation; every attempt counts."""
        return [call.name for call in self.calls]

    def called(self, name: str) -> list[Call]:
        """The attempts of that name: `charge`, `undo charge`, `pay[0].transfer`."""
        return [call for call in self.calls if call.name == name]

    @property
    def waiting(self) -> tuple[str, ...]:
        """The steps that wait for an event, a decision or a report."""
        steps = self._rehearsal.state.steps
        return tuple(key for key, step in steps.items() if self._awaits_outside(key, step))

    @property
    def seconds(self) -> float:
        """Simulated time since the start."""
        return self._rehearsal.now - STARTS_AT

    @property
    def log(self) -> list[Entry]:
        """The entries of the saga's log."""
        return self._rehearsal.log

    def step(self, key: str) -> StepState:
        """The state of the step, or of one instance: `status`, `output`, `cause`, `effect`."""
        return self._rehearsal.state.step(key)

    def _awaits_outside(self, key: str, step: StepState) -> bool:
        action = self._rehearsal.definition.step(key).action
        return step.status is StepStatus.WAITING and not isinstance(action, Delay)

    # What makes time pass.

    def finish(self) -> Run:
        """Skips time until the saga is over, or waits for something that only the test can bring."""
        self._rehearsal.run()
        return self._judged()

    def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> Run:
        """Lets that much time pass. Everything that is due in it happens."""
        total = seconds + 60 * minutes + 3600 * hours + 86_400 * days
        self._rehearsal.run(until=self._rehearsal.now + total)
        return self._judged()

    def run_until_waiting(self) -> Run:
        """Goes on until a step waits for something from outside and nothing else is under way, or the saga is over.

        Retries and delays are skipped; timeouts of waits are not.
        """
        while self._rehearsal.next_at() is not None and not self._is_only_waiting():
            self._rehearsal.move()
        return self._judged()

    def run_until(self, condition: Callable[[], bool]) -> Run:
        """Goes on until the condition holds. Raises AssertionError when nothing more happens and it still does not."""
        while not condition():
            if self._rehearsal.next_at() is None:
                raise AssertionError(f"what was waited for never came; {self!r}")
            self._rehearsal.move()
        return self._judged()

    def _is_only_waiting(self) -> bool:
        steps = self._rehearsal.state.steps
        opened = [(key, step) for key, step in steps.items() if step.is_open]
        is_outside = [self._awaits_outside(key, step) for key, step in opened]
        return bool(opened) and all(is_outside) and not self._rehearsal.is_anything_scheduled

    def _judged(self) -> Run:
        if found := breaches(self._rehearsal):
            raise PromiseBroken("; ".join(str(breach) for breach in found))
        return self

    # What happens from outside.

    def signal(self, event: str, payload: Any = None, *, event_id: str | None = None) -> Run:
        """Sends an event to this saga alone, as `SignalSaga` does. The same `event_id` counts once."""
        return self._tell(self._stage.event(event, payload, "", event_id))

    def publish(
        self,
        event: str,
        payload: Any = None,
        *,
        correlation: str,
        event_id: str | None = None,
        keep_seconds: float = EVENT_KEPT_SECONDS,
    ) -> Run:
        """Publishes an event for all sagas that await that correlation, now or within that time, as `PublishEvent` does."""
        self._rehearsal.publish(self._stage.event(event, payload, correlation, event_id), keep_seconds)
        return self

    def approve(self, step: str, *, by: str = "", comment: str = "") -> Run:
        """Approves the step, by default in the name of its first approver."""
        return self._tell(self._stage.decision(step, Decided(True, by, comment)))

    def reject(self, step: str, *, by: str = "", comment: str = "") -> Run:
        """Rejects the step, by default in the name of its first approver."""
        return self._tell(self._stage.decision(step, Decided(False, by, comment)))

    def report(self, step: str, report: Any = None, *, of_compensation: bool = False) -> Run:
        """Reports, as a participant does, the outcome of an operation that the participant had accepted: its output, or a
        `Refused`.
        """
        kind = OperationKind.COMPENSATION if of_compensation else OperationKind.ACTION
        return self._tell(OutcomeReported(step, kind, reported_outcome(report)))

    def cancel(self, reason: str = "cancelled", *, by: str = "") -> Run:
        return self._tell(CancelAsked(reason, by))

    def crash(self) -> Run:
        """Ends the coordinator, and lets another one take over the saga. Nobody hears the outcomes of the calls in flight."""
        return self._tell(OwnershipGained("the coordinator that crashed"))

    def _tell(self, given: Input) -> Run:
        """Raises NotPossibleNow when the saga's state forbids it."""
        decision: Decision = self._rehearsal.hear(given)
        if isinstance(decision.answer, Refusal):
            raise decision.answer.error()
        return self

    def __repr__(self) -> str:
        return f"<saga {self._rehearsal.definition.name}: {self.status} after {', '.join(self.names)}>"


class _Stage:
    """The surroundings of a run: fakes, faults, events and decisions."""

    def __init__(
        self,
        definition: Definition,
        participants: Participants,
        faults: Faults,
        events: Mapping[str, Any],
        approvals: Mapping[str, bool | Decided],
    ) -> None:
        self.calls: list[Call] = []
        self._definition = definition
        self._participants = participants
        self._faults = faults
        self._events = events
        self._approvals = approvals
        self._sent = 0
        _check_names(definition, "faults", [name.removeprefix("undo ") for name in faults], Operation)
        _check_names(definition, "events", events, AwaitEvent)
        _check_names(definition, "approvals", approvals, Approval)

    def answer(self, invoke: Invoke, now: float) -> Reply:
        call = Call.of(invoke, now - STARTS_AT)
        self.calls.append(call)
        try:
            fault = self._fault(call)
            output = self._participants.perform(call) if fault is None or fault.happened else None
        except Failing as raised:
            fault, output = raised, None
        return Reply(outcomes.Succeeded(output)) if fault is None else fault.reply(invoke)

    def _fault(self, call: Call) -> Failing | None:
        prefix = "undo " if call.is_compensation else ""
        for name in (call.name, prefix + step_name(call.step)):
            match self._faults.get(name):
                case None:
                    continue
                case Failing() as always:
                    return always
                case planned:
                    return planned[call.attempt - 1] if call.attempt <= len(planned) else None
        return None

    def await_outside(self, wait: WaitStarted, now: float) -> Sequence[Soon]:
        step = self._definition.step(wait.step)
        for name in (wait.step, step.name):
            if name in self._events:
                event = self.event(wait.event or "", self._events[name], wait.correlation or "", None)
                return (Soon(WAIT_SECONDS, event),)
            if name in self._approvals:
                decided = self._approvals[name]
                decided = decided if isinstance(decided, Decided) else Decided(decided)
                return (Soon(WAIT_SECONDS, self.decision(wait.step, decided)),)
        return ()

    def event(self, name: str, payload: Any, correlation: str, event_id: str | None) -> EventArrived:
        self._sent += 1
        content = as_json(payload, f"the payload of the event `{name}`")
        return EventArrived(event_id or f"event-{self._sent}", name, correlation, content)

    def decision(self, step: str, decided: Decided) -> ApprovalDecided:
        _check_names(self._definition, "approval", [step], Approval)
        action = self._definition.step(step).action
        assert isinstance(action, Approval)
        who = decided.by or (action.approvers[0] if action.approvers else "somebody")
        return ApprovalDecided(step, decided.is_approved, who, decided.comment)


def _check_names(
    definition: Definition, what: str, names: Sequence[str] | Mapping[str, Any], kind: type
) -> None:
    """Raises ValueError if a name is no step of that kind, because it would never have any effect."""
    fitting = [name for name in definition.loops_around if isinstance(definition.step(name).action, kind)]
    for name in names:
        if step_name(name) not in fitting:
            raise ValueError(
                f"{what}: `{name}` is no step of that kind; there are: {', '.join(fitting) or 'none'}"
            )
