"""What must be true of every story, seen from outside: calls, answers, the participants' truth, and the committed entries.

It reads definitions in their JSON form and knows nothing of how the core works. Each check names the promise (DESIGN.md
section 2) or rule (section 5) it stands for; a breach raises `Breach`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from saga_coordinator.saga import decide as core
from saga_coordinator.saga import entries as log
from saga_coordinator.saga import state as states
from saga_coordinator.saga.decide import (
    AttemptEnded,
    CancelAsked,
    Decision,
    Finish,
    Input,
    Invoke,
    OutcomeReported,
    OwnershipGained,
    SetTimer,
)
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.state import SETTLED, SagaState, SagaStatus
from tests.unit.saga.definitions import random_source
from tests.unit.saga.world import MADE_UP, Call, Witness, World

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
Operation = tuple[str, OperationKind]


class Breach(AssertionError):
    """A promise was broken."""


def check(holds: object, message: str) -> None:
    if not holds:
        raise Breach(message)


@dataclass
class Heard:
    """What the coordinator has been told about one operation, in the order it was told."""

    started: int = 0
    lost: int = 0
    burnt: int = 0
    succeeded: int = 0
    refused: int = 0
    not_found: int = 0
    pending: int = 0
    is_awaited: bool = False

    @property
    def may_have_happened(self) -> bool:
        return self.succeeded + self.lost + self.burnt > 0


class Oracle(Witness):
    def __init__(self, source: dict[str, Any]) -> None:
        self.steps: dict[str, dict[str, Any]] = {each["name"]: each for each in source["steps"]}
        self.before = _ancestors(source)
        self.after = {
            name: {other for other, above in self.before.items() if name in above} for name in self.steps
        }
        self.pivot = next((name for name, each in self.steps.items() if each.get("pivot")), None)
        self.heard: dict[Operation, Heard] = defaultdict(Heard)
        self.decided_early: set[Call] = set()
        """Calls still in flight when a report decided their operation: how they end says nothing more."""
        self.open: dict[tuple[str, OperationKind, int], Call] = {}
        self.calls: list[Call] = []
        self.keys: dict[Operation, tuple[str, str]] = {}
        self.outputs: dict[str, Any] = {}
        self.undone_with: dict[str, Any] = {}
        self.not_before: dict[Operation, float] = {}
        self.turned_by: str | None = None
        self.world: World | None = None
        self.log: list[log.Entry] = []
        self.rows: Counter[Any] = Counter()
        """Rows of the tables that this story has used."""
        self.pairs: Counter[Any] = Counter()
        """(saga status, type of input) that it has met."""

    # After every decision.

    def decided(
        self, before: SagaState | None, happened: Input, decision: Decision, *, may_call: bool
    ) -> None:
        world = self._world
        self.pairs[before and before.status, type(happened)] += 1
        self._hear(before, happened)
        self.log += decision.entries
        self._check_fold(before, decision)
        self._check_intents(decision)
        self._check_inputs(before, happened, decision)
        self._check_turn(before, decision.entries)
        self._check_budgets(before, decision.entries)
        self._check_effects_grow(before, happened, decision.state)
        if may_call:
            self._check_moves(decision)
            self._check_repetition(happened, decision.state)
        for invoke in (effect for effect in decision.effects if isinstance(effect, Invoke)):
            self._check_invocation(invoke, decision, world.now)
        if before is not None and before.status in SETTLED:
            check(decision.state.status is before.status, "P1: an end is an end")
        elif decision.state.status in SETTLED:
            check(decision.effects == (Finish(decision.state.status),), "an end is told, and nothing else")
            self._check_end(decision.state)

    @property
    def _world(self) -> World:
        assert self.world is not None
        return self.world

    def called(self, call: Call) -> None:
        invoke = call.invoke
        self.calls.append(call)
        self.open[invoke.step, invoke.operation, invoke.attempt] = call
        self.heard[invoke.step, invoke.operation].started += 1

    def _hear(self, before: SagaState | None, happened: Input) -> None:
        if isinstance(happened, OwnershipGained):
            for (step, kind, _), call in self.open.items():
                if call.is_lost and call not in self.decided_early:
                    self.heard[step, kind].lost += 1
            self.open = {key: call for key, call in self.open.items() if not call.is_lost}
        if not isinstance(happened, AttemptEnded | OutcomeReported) or happened.outcome == Succeeded(MADE_UP):
            return
        heard = self.heard[happened.step, happened.operation]
        match happened.outcome:
            case Succeeded(output):
                heard.succeeded += 1
                if happened.operation is ACTION:
                    self.outputs.setdefault(happened.step, output)
            case Refused(cause):
                heard.refused += 1
                heard.not_found += cause.code == "NOT_FOUND"
            case Pending():
                heard.pending += 1
                heard.is_awaited = True
            case Unknown() if isinstance(happened, AttemptEnded):
                call = self.open[happened.step, happened.operation, happened.attempt]
                heard.burnt += call not in self.decided_early
            case Unknown():
                heard.burnt += heard.is_awaited
                heard.is_awaited = False
        if isinstance(happened, AttemptEnded):
            del self.open[happened.step, happened.operation, happened.attempt]
        elif isinstance(happened.outcome, Succeeded | Refused):
            heard.is_awaited = False
            self.decided_early |= {
                call for key, call in self.open.items() if key[:2] == (happened.step, happened.operation)
            }

    def _check_fold(self, before: SagaState | None, decision: Decision) -> None:
        """The decision's entries, one by one; counts which rows of the tables they use."""
        state = before
        for entry in decision.entries:
            if isinstance(entry, log.SagaEntry):
                self.rows[state and state.status, type(entry)] += 1
            else:
                assert state is not None
                self.rows[state.step(entry.step).status, entry.operation, type(entry)] += 1
            state = states.apply("saga", state, entry)
        check(state == decision.state, "P7: a decision's state is what its entries lead to")

    def check_log(self, state: SagaState) -> None:
        """The whole log, as it is in memory and as it comes back from the store."""
        once = states.fold("saga", self.log)
        again = states.fold("saga", [log.decode(_stored(log.encode(entry))) for entry in self.log])
        check(once == state, "P7: the state is the fold of the log")
        check(again == state, "P7: the stored log gives the same state")
        check(state.sequence == len(self.log), "the sequence counts the entries")

    def _check_intents(self, decision: Decision) -> None:
        intended = [
            (entry.step, entry.operation, entry.attempt)
            for entry in decision.entries
            if isinstance(entry, log.AttemptStarted)
        ]
        invoked = [
            (effect.step, effect.operation, effect.attempt)
            for effect in decision.effects
            if isinstance(effect, Invoke)
        ]
        check(intended == invoked, f"P6: intents {intended} and calls {invoked} are one")

    def _check_inputs(self, before: SagaState | None, happened: Input, decision: Decision) -> None:
        failed = [entry for entry in decision.entries if isinstance(entry, log.SagaFailed)]
        if isinstance(happened, CancelAsked):
            assert before is not None
            is_past = before.status is not SagaStatus.RUNNING or self._is_pivot_attempted()
            is_turned = any(entry.cause.code == "CANCELLED" for entry in failed)
            check(
                is_turned is not is_past,
                "a cancel turns a running saga, unless its pivot was attempted",
            )
            if before.status is SagaStatus.RUNNING and is_past:
                check(decision.refusal, "a cancel after the pivot's attempt is refused")
        if isinstance(happened, OutcomeReported) and happened.outcome == Succeeded(MADE_UP):
            check(decision.refusal, "a report of what was never attempted is refused")
            told = decision.state.step(happened.step).told
            check(not [kind for kind, _ in told if kind is happened.operation], "and it is not believed")
        if isinstance(happened, OwnershipGained) and before is not None and before.status not in SETTLED:
            check(decision.entries, "P8: an adoption takes the sequence that the previous owner would take")

    def _is_pivot_attempted(self) -> bool:
        return self.pivot is not None and self.heard[self.pivot, ACTION].started > 0

    def _check_turn(self, before: SagaState | None, entries: tuple[log.Entry, ...]) -> None:
        for entry in entries:
            if isinstance(entry, log.SagaFailed):
                check(self.turned_by is None, "a saga turns once")
                self.turned_by = entry.cause.code
                if self.pivot is not None:
                    heard = self.heard[self.pivot, ACTION]
                    is_clear = heard.refused > 0 and not heard.may_have_happened
                    check(not heard.started or is_clear, "nothing goes back once the pivot may have happened")
                if entry.cause.code == "DEADLINE":
                    assert before is not None
                    assert before.deadline_at is not None
                    check(before.deadline_at <= self._world.now, "the deadline has passed")
            elif isinstance(entry, log.AttemptStarted):
                is_action = entry.operation is ACTION
                check(
                    is_action == (self.turned_by is None), "actions before the turn, compensations after it"
                )

    def _check_budgets(self, before: SagaState | None, entries: tuple[log.Entry, ...]) -> None:
        for entry in entries:
            if (
                isinstance(entry, log.AttemptUnknown | log.AttemptUnresolved)
                and entry.cause.code == "PENDING_TIMEOUT"
            ):
                heard = self.heard[entry.step, entry.operation]
                heard.burnt += 1
                heard.is_awaited = False
            if isinstance(entry, log.AttemptUnresolved) and entry.cause.code != "PENDING":
                is_action, most = entry.operation is ACTION, self._attempts_max(entry.step, entry.operation)
                was_hopeless = is_action and before is not None and before.status is not SagaStatus.RUNNING
                burnt = self.heard[entry.step, entry.operation].burnt
                check(
                    was_hopeless or burnt >= most,
                    f"{entry.step} was given up after {burnt} of {most} attempts",
                )
            if isinstance(entry, log.AttemptUnknown):
                heard = self.heard[entry.step, entry.operation]
                self.not_before[entry.step, entry.operation] = entry.retry_at
                retry = self._operation(entry.step, entry.operation)["retry"]
                nth = max(0, heard.burnt - 1)
                ceiling = min(float(retry["max_backoff"][:-1]), 0.5 * 2**nth)
                check(0 <= entry.retry_delay_seconds <= ceiling, "the pause is within the policy's backoff")

    def _operation(self, step: str, kind: OperationKind) -> dict[str, Any]:
        operation: dict[str, Any] = self.steps[step][str(kind)]
        return operation

    def _attempts_max(self, step: str, kind: OperationKind) -> int:
        return int(self._operation(step, kind)["retry"]["max_attempts"])

    def _check_effects_grow(self, before: SagaState | None, happened: Input, after: SagaState) -> None:
        for name, step in after.steps.items():
            known = before.step(name).effect if before else 0
            is_pending_refused = (
                before is not None
                and before.step(name).status is states.StepStatus.WAITING
                and isinstance(happened, OutcomeReported)
                and isinstance(happened.outcome, Refused)
            )
            check(step.effect >= known or is_pending_refused, f"the known effect of {name} has shrunk")
            heard = self.heard[name, ACTION]
            if heard.may_have_happened:
                check(
                    step.effect > states.EffectKnown.NONE, f"{name} may have happened, and that was forgotten"
                )
            if heard.succeeded:
                check(
                    step.effect is states.EffectKnown.CERTAIN, f"{name} has happened, and that was forgotten"
                )

    def _check_moves(self, decision: Decision) -> None:
        if decision.state.status in SETTLED:
            return
        timers = [effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)]
        is_moving = timers or self.open or any(isinstance(effect, Invoke) for effect in decision.effects)
        check(is_moving, f"P1: nothing will ever happen to this saga again: {decision.state}")
        deadline_at = decision.state.deadline_at
        if decision.state.status is SagaStatus.RUNNING and deadline_at and not self._is_pivot_attempted():
            is_pivot_next = any(
                isinstance(effect, Invoke) and effect.step == self.pivot for effect in decision.effects
            )
            check(deadline_at > self._world.now or is_pivot_next, "a deadline that has passed is noticed")
            check(is_pivot_next or min(timers) <= deadline_at, "a deadline has a timer")

    def _check_repetition(self, happened: Input, state: SagaState) -> None:
        if not isinstance(happened, AttemptEnded | OutcomeReported) or happened.outcome == Succeeded(MADE_UP):
            return
        if isinstance(happened.outcome, Unknown | Pending):  # says nothing that a repetition could repeat
            return
        again = core.decide(self._world.definition, state, happened, self._world.now, 0.5)
        check(not again.entries and again.state == state, f"P9: told twice, {happened} moved something again")
        check(not again.is_applied or again.refusal, "P9: a repetition is answered as one")

    def _check_invocation(self, invoke: Invoke, decision: Decision, now: float) -> None:
        step, kind = invoke.step, invoke.operation
        operation = (step, kind)
        payload = json.dumps(invoke.input)
        told = self.keys.setdefault(operation, (invoke.idempotency_key, payload))
        check(
            told == (invoke.idempotency_key, payload),
            "P5: every attempt has the same key and the same input",
        )
        owners = {other for other, (key, _) in self.keys.items() if key == invoke.idempotency_key}
        check(owners == {operation}, "P5: no two operations share a key")
        heard = self.heard[operation]
        check(heard.burnt < self._attempts_max(step, kind), f"{operation} is attempted beyond its budget")
        check(invoke.attempt == heard.started + 1, "attempts are counted one by one")
        check(self.not_before.get(operation, 0) <= now, "no retry before its time")
        check(not heard.succeeded, "what has succeeded is not attempted again")
        if kind is ACTION:
            missing = [other for other in self.before[step] if not self.heard[other, ACTION].succeeded]
            check(not missing, f"{step} starts before {missing} have succeeded")
            return
        wanted = self._operation(step, kind).get("input")
        if wanted in (None, "${output.id}"):
            output = self.outputs.get(step)
            known = output["id"] if wanted and output else output
            first = self.undone_with.setdefault(step, known)
            check(
                invoke.input == first,
                f"the compensation of {step} is handed what its action returned, if known",
            )
        self._check_undoing(step, now)

    def _check_undoing(self, step: str, now: float) -> None:
        action = self.heard[step, ACTION]
        is_wanted = (
            action.may_have_happened
            or action.pending
            or (action.refused and self.steps[step].get("compensate_on_refusal"))
        )
        check(is_wanted, f"{step} is compensated although it was never attempted, or only refused")
        for call in self.calls:
            invoke, told = call.invoke, self.heard[call.invoke.step, ACTION]
            if invoke.operation is ACTION and self._may_be_in_flight(call, now):
                check(
                    invoke.step != step,
                    f"P4: {step} is compensated while attempt {invoke.attempt} is in flight",
                )
                is_waited_for = invoke.step in self.after[step] and not told.succeeded + told.refused
                check(
                    not is_waited_for, f"P4: {step} is compensated while {invoke.step} after it is in flight"
                )
        for later in self.after[step]:
            undoing, doing = self.heard[later, COMPENSATION], self.heard[later, ACTION]
            is_over = undoing.succeeded or undoing.not_found
            check(not undoing.started or is_over, f"P3: {step} is compensated before {later}")
            if self.steps[later].get("compensation") and doing.may_have_happened:
                check(is_over, f"P3: {step} is compensated, and {later}, which depends on it, never was")

    def _may_be_in_flight(self, call: Call, now: float) -> bool:
        if call.is_lost:
            return call.started_at + call.invoke.timeout_seconds > now
        return call in self.open.values()

    # At the end.

    def _check_end(self, state: SagaState) -> None:
        standing = {name for name in self.steps if self._stands(name)}
        match state.status:
            case SagaStatus.COMPLETED:
                undone = [name for name in self.steps if not self.heard[name, ACTION].succeeded]
                check(not undone, f"P2: completed without {undone}")
                check(not any(call.invoke.operation is COMPENSATION for call in self.calls), "P13")
            case SagaStatus.COMPENSATED:
                check(not standing, f"P2: compensated, and {standing} stand")
            case _:
                check(state.status is SagaStatus.NEEDS_ATTENTION, f"ended as {state.status}")
                remaining = set(state.remaining)
                check(standing <= remaining, f"P2: {standing - remaining} stand and are not listed")
                unsure = {name for name in self.steps if self.heard[name, ACTION].pending}
                wanted = {
                    name
                    for name, each in self.steps.items()
                    if each.get("compensate_on_refusal") and self.heard[name, ACTION].refused
                }
                check(
                    remaining <= standing | unsure | wanted,
                    f"P2: {remaining - standing} do not stand and are listed",
                )
        for call in self.open.values():
            is_known = call in self.decided_early or state.status is SagaStatus.NEEDS_ATTENTION
            check(call.invoke.operation is ACTION or is_known, "no end while a compensation is in flight")

    def _stands(self, name: str) -> bool:
        """Whether the coordinator has to assume that an effect of the step stands."""
        if self.steps[name].get("read_only") or not self.heard[name, ACTION].may_have_happened:
            return False
        undoing = self.heard[name, COMPENSATION]
        is_certain = self.heard[name, ACTION].succeeded
        return not (undoing.succeeded or (undoing.not_found and not is_certain))

    def check_truth(self, world: World) -> None:
        """After everything has arrived: what the participants really did, against what the saga says."""
        state = world.state
        assert state is not None
        real = {
            name
            for name, site in world.sites.items()
            if site.has_effect and not self.steps[name].get("read_only")
        }
        match state.status:
            case SagaStatus.COMPLETED:
                check(all(site.is_applied for site in world.sites.values()), "P2: completed, but not done")
                check(not any(site.is_undone for site in world.sites.values()), "P2: completed, but undone")
            case SagaStatus.COMPENSATED:
                check(not real, f"P2: compensated, but {real} really stand")
            case _:
                check(
                    real <= set(state.remaining),
                    f"P2: {real - set(state.remaining)} stand and are not listed",
                )


def _stored(entry: log.StoredEntry) -> log.StoredEntry:
    return replace(entry, body=json.loads(json.dumps(entry.body)))


def _ancestors(source: dict[str, Any]) -> dict[str, set[str]]:
    names = [each["name"] for each in source["steps"]]
    is_linear = not any(each.get("after") for each in source["steps"])
    above: dict[str, set[str]] = {}
    for index, each in enumerate(source["steps"]):  # written in an order in which they can run
        direct = names[:index] if is_linear else each.get("after", [])
        above[each["name"]] = set(direct).union(*(above[other] for other in direct))
    return above


def play(random: Random) -> Oracle:
    """Plays one random story under the oracle's eyes. Raises `Breach`, or another AssertionError of the world's."""
    source = random_source(random)
    return watch(Oracle(source), random, source)


def watch(oracle: Oracle, random: Random, source: dict[str, Any]) -> Oracle:
    oracle.world = World(random, source, oracle)
    oracle.world.run()
    oracle.check_truth(oracle.world)
    assert oracle.world.state is not None
    oracle.check_log(oracle.world.state)
    return oracle
