"""Judges calls: that they were intended, their keys and inputs, their order, and how many run at once; a part of the oracle."""

from __future__ import annotations

import json
from typing import Any

from proof.core.breach import check
from proof.core.foreseen import seconds
from proof.core.hearing import Hearing, Operation
from proof.core.world import Call
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine.effects import Decision, Invoke
from saga_coordinator.saga.words.identity import OperationKind

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION


class Calls:
    """The calls of one saga."""

    def __init__(self, told: Hearing, max_parallel: int) -> None:
        self.told = told
        self.max_parallel = max_parallel
        self.keys: dict[Operation, tuple[str, str]] = {}
        self.undone_with: dict[str, Any] = {}

    def check_intents(self, decision: Decision) -> None:
        intended = [
            (entry.step, entry.operation, entry.attempt)
            for entry in decision.entries
            if isinstance(entry, log.AttemptStarted)
        ]
        calls = [effect for effect in decision.effects if isinstance(effect, Invoke)]
        invoked = [(call.step, call.operation, call.attempt) for call in calls if not call.is_poll]
        check(intended == invoked, f"P6: intents {intended} and calls {invoked} are one")
        looked = {
            (entry.step, entry.operation, entry.attempt)
            for entry in decision.entries
            if isinstance(entry, log.AttemptPending)
        }
        polls = {(call.step, call.operation, call.attempt) for call in calls if call.is_poll}
        check(polls <= looked, f"P6: {polls - looked} are asked about, and the log does not say so")
        for step, operation, attempt in polls:
            asked = decision.state.step(step)
            is_awaited = asked.is_waiting_for_report and (asked.operation, asked.attempt) == (
                operation,
                attempt,
            )
            check(is_awaited, f"{step} is asked about, and nobody waits for it any more")

    def made(self, invoke: Invoke, now: float) -> None:
        step, kind = invoke.step, invoke.operation
        operation = (step, kind)
        check(step in self.told.steps, f"{step} is called, which never was to run")
        payload = json.dumps(invoke.input)
        told = self.keys.setdefault(operation, (invoke.idempotency_key, payload))
        check(
            told == (invoke.idempotency_key, payload),
            "P5: every attempt has the same key and the same input",
        )
        owners = {other for other, (key, _) in self.keys.items() if key == invoke.idempotency_key}
        check(owners == {operation}, "P5: no two operations share a key")
        check(
            invoke.timeout_seconds == seconds(self.told.operation(step, kind).get("timeout", "10s")),
            f"an attempt of {operation} has another time than its operation's: it would be cut off",
        )
        if invoke.is_poll:
            check("saga" in self.told.steps[step], "only what says so is asked about")
            check(self.told.heard[operation].is_awaited, f"{operation} is asked about, and is not awaited")
            return
        if kind is ACTION:
            missing = [other for other in self.told.foreseen.before[step] if not self.told.is_over(other)]
            check(not missing, f"{step} starts before {missing} are over")
            check(self.told.watch.is_wanted(step), f"{step} runs although its condition does not hold")
            return
        self._check_what_it_is_handed(invoke)
        self._check_undoing(step, now)

    def _check_what_it_is_handed(self, invoke: Invoke) -> None:
        """A compensation gets what its action returned, if that was known when it was first attempted."""
        wanted = self.told.operation(invoke.step, COMPENSATION).get("input")
        output = self.undone_with.setdefault(invoke.step, self.told.outputs.get(invoke.step))
        if wanted is None:
            check(invoke.input == output, f"the compensation of {invoke.step} is handed {invoke.input}")
        elif "ref" in wanted:
            handed = (invoke.input["ref"], invoke.input["why"])
            known = (output and output["ref"], self.told.turned_by)
            check(handed == known, f"the compensation of {invoke.step} is handed {handed}, not {known}")

    def check_parallel(self, decision: Decision) -> None:
        """No more calls at once than the definition allows, and no more items than their loop does."""
        started = [effect for effect in decision.effects if isinstance(effect, Invoke) and not effect.is_poll]
        if not started:
            return
        under_way = {
            (call.invoke.step, call.invoke.operation)
            for call in self.told.open.values()
            if call not in self.told.decided_early and decision.state.step(call.invoke.step).is_in_flight
        }
        under_way |= {(call.step, call.operation) for call in started}
        check(
            not self.max_parallel or len(under_way) <= self.max_parallel, f"{under_way} are too many at once"
        )
        for loop in self.told.foreseen.loops:
            limit = loop.spec["for_each"].get("max_parallel", 0)
            begun = [
                item.index
                for item in loop.runs
                if (members := self.told.foreseen.members(item))
                and (
                    self.told.watch.begun & members
                    if self.told.turned_by is None
                    else members & {key for key, _ in under_way}
                )
                and not (self.told.turned_by is None and all(self.told.is_over(key) for key in members))
            ]
            check(
                not limit or len(begun) <= limit,
                f"items {begun} of {loop.key} are under way at once",
            )

    def _check_undoing(self, step: str, now: float) -> None:
        action = self.told.heard[step, ACTION]
        is_wanted = (
            action.may_have_happened
            or action.pending
            or (action.refused and self.told.steps[step].get("compensate_on_refusal"))
        )
        check(is_wanted, f"{step} is compensated although it was never attempted, or only refused")
        for call in self.told.calls:
            invoke, told = call.invoke, self.told.heard[call.invoke.step, ACTION]
            if invoke.operation is ACTION and self._may_be_in_flight(call, now):
                check(
                    invoke.step != step,
                    f"P4: {step} is compensated while attempt {invoke.attempt} is in flight",
                )
                is_waited_for = invoke.step in self.told.after[step] and not told.succeeded + told.refused
                check(
                    not is_waited_for, f"P4: {step} is compensated while {invoke.step} after it is in flight"
                )
        for later in self.told.after[step]:
            undoing, doing = self.told.heard[later, COMPENSATION], self.told.heard[later, ACTION]
            is_over = undoing.succeeded or undoing.not_found
            if self.told.instances[later].is_undo_optional:
                is_over = is_over or later in self.told.watch.given_up
            check(not undoing.started or is_over, f"P3: {step} is compensated before {later}")
            if self.told.instances[later].has_undo and doing.may_have_happened:
                check(is_over, f"P3: {step} is compensated, and {later}, which depends on it, never was")

    def _may_be_in_flight(self, call: Call, now: float) -> bool:
        if call.is_lost:
            return call.started_at + call.invoke.timeout_seconds > now
        return call in self.told.open.values()
