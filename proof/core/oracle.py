"""What must be true of every story, seen from outside: calls, answers, the participants' truth, and the committed entries.

It reads definitions in their JSON form and knows nothing of how the core works. Each check names the promise or
the rule of docs/concepts.md that it stands for.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from proof.core.breach import check
from proof.core.definitions import random_source
from proof.core.foreseen import CHILD, Foreseen, seconds
from proof.core.takeovers import LOST, Takeovers
from proof.core.watch import Watch
from proof.core.world import BEGIN, MADE_UP, Call, Witness, World
from proof.definitions import random_input
from saga_coordinator.saga.machine import decide as core
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine import state as states
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.effects import (
    Decision,
    Finish,
    GoOn,
    Invoke,
    LookForEvent,
    LookForRoom,
    SetTimer,
)
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    CancelAsked,
    EventArrived,
    Input,
    OutcomeReported,
    OwnershipGained,
    RecallAsked,
    RoomFound,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, encode
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus, StepStatus
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Held, Pending, Refused, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
Operation = tuple[str, OperationKind]
GOING_ON = (log.SagaRecalled, log.SagaUnparked, log.UndoUnparked)
"""Entries by which a saga moves that nothing had moved by itself."""


@dataclass
class Heard:
    """What the coordinator has been told about one operation, in the order it was told."""

    started: int = 0
    lost: int = 0
    burnt: int = 0
    unsent: int = 0
    succeeded: int = 0
    refused: int = 0
    not_found: int = 0
    pending: int = 0
    is_awaited: bool = False
    doubts: set[int] = field(default_factory=set)
    """Attempts of which nobody knows whether they took effect."""
    accepted: int = 0
    """The attempt that was answered with PENDING last."""

    @property
    def may_have_happened(self) -> bool:
        return bool(self.succeeded or self.doubts)


class Oracle(Witness):
    def __init__(self, source: dict[str, Any], given: dict[str, Any]) -> None:
        self.foreseen = Foreseen(source, given)
        self.plan = self.foreseen.plan
        self.max_parallel: int = source.get("max_parallel", 0)
        self.steps = {key: call.spec for key, call in self.foreseen.calls.items()}
        """Those of the instances that call somebody, by key."""
        self.after = {key: self.foreseen.after[key] & self.steps.keys() for key in self.steps}
        self.pivot = self.plan.pivot
        self.watch = Watch(self.foreseen)
        self.takeovers = Takeovers()
        self.heard: dict[Operation, Heard] = defaultdict(Heard)
        self.decided_early: set[Call] = set()
        """Calls still in flight when a report decided their operation: how they end says nothing more."""
        self.polls: dict[Operation, float] = {}
        """When an operation is to be asked about next."""
        self.first_at: dict[str, float] = {}
        """When an action was attempted first."""
        self.open: dict[tuple[str, OperationKind, int], Call] = {}
        self.calls: list[Call] = []
        self.keys: dict[Operation, tuple[str, str]] = {}
        self.outputs: dict[str, Any] = {}
        self.undone_with: dict[str, Any] = {}
        self.not_before: dict[Operation, float] = {}
        self.held: set[tuple[str, OperationKind | None]] = set()
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
        self.watch.decided(happened, decision.entries, world.now)
        self._check_events(before, happened, decision)
        self._check_intents(decision)
        self._check_inputs(before, happened, decision)
        self._check_turn(before, decision.entries)
        self._check_takeovers(decision.entries)
        self._check_budgets(before, decision.entries)
        self._check_pauses(happened, decision)
        self._check_rooms(happened, decision)
        self._check_effects_grow(before, happened, decision.state)
        if may_call:
            self._check_moves(decision)
            self._check_repetition(happened, decision)
        for invoke in (effect for effect in decision.effects if isinstance(effect, Invoke)):
            self._check_invocation(invoke, decision, world.now)
        self._check_parallel(decision)
        is_going_on = any(isinstance(entry, GOING_ON) for entry in decision.entries)
        is_parked = before is not None and before.status is SagaStatus.NEEDS_ATTENTION
        if before is not None and before.status in SETTLED and not (is_going_on or is_parked):
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
        if invoke.is_poll:
            return
        self.calls.append(call)
        if invoke.operation is ACTION:
            self.first_at.setdefault(invoke.step, call.started_at)
        self.open[invoke.step, invoke.operation, invoke.attempt] = call
        self.heard[invoke.step, invoke.operation].started += 1

    def _hear(self, before: SagaState | None, happened: Input) -> None:
        if isinstance(happened, OwnershipGained):
            for (step, kind, _), call in self.open.items():
                if call.is_lost and call not in self.decided_early:
                    self.heard[step, kind].lost += 1
                    self.heard[step, kind].doubts.add(call.invoke.attempt)
            self.open = {key: call for key, call in self.open.items() if not call.is_lost}
        if not isinstance(happened, AttemptEnded | OutcomeReported) or happened.outcome == Succeeded(MADE_UP):
            return
        ended: Call | None = None
        if isinstance(happened, AttemptEnded):  # it stays None for a poll
            ended = self.open.pop((happened.step, happened.operation, happened.attempt), None)
        elif isinstance(happened.outcome, Refused) and before is not None and before.adoption is not None:
            known = before.step(happened.step)
            if known.is_in_flight and known.operation is happened.operation:
                # The takeover has not come to this attempt yet, so its refusal is heard before it was ever in doubt.
                self.heard[happened.step, happened.operation].doubts.discard(known.attempt)
        self._hear_outcome(happened, ended)
        if ended is None and isinstance(happened.outcome, Succeeded | Refused):
            self.heard[happened.step, happened.operation].is_awaited = False
            self.decided_early |= {
                each for key, each in self.open.items() if key[:2] == (happened.step, happened.operation)
            }

    def _hear_outcome(self, happened: AttemptEnded | OutcomeReported, call: Call | None) -> None:
        """What it says about the operation. `call` is the one that ended; None for a report, or a poll."""
        heard = self.heard[happened.step, happened.operation]
        is_news = call is not None and call not in self.decided_early
        match happened.outcome:
            case Succeeded(output):
                heard.succeeded += 1
                if happened.operation is ACTION:
                    self.outputs.setdefault(happened.step, output)
            case Refused(cause):
                heard.refused += 1
                heard.not_found += cause.code == "NOT_FOUND"
                is_begun = (
                    self.heard[happened.step, COMPENSATION].started or happened.step in self.watch.given_up
                )
                if heard.doubts == {heard.accepted} == {happened.attempt or heard.started} and not is_begun:
                    heard.doubts.clear()  # the attempt in doubt is the one that was refused
            case Pending():
                heard.pending += 1
                heard.is_awaited |= is_news
                heard.accepted = happened.attempt if is_news else heard.accepted
            case Unknown(was_sent=was_sent) if isinstance(happened, AttemptEnded):
                heard.burnt += is_news
                heard.unsent += is_news and not was_sent
                heard.doubts |= {happened.attempt} if is_news and was_sent else set()
            case Held(was_given=was_given):
                heard.started -= is_news and not was_given
                heard.unsent += is_news and was_given
            case Unknown():
                heard.burnt += heard.is_awaited
                heard.doubts |= {happened.attempt or heard.started} if heard.is_awaited else set()
                heard.is_awaited = False

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
        again = states.fold("saga", [decode(_stored(encode(entry))) for entry in self.log])
        check(once == state, "P7: the state is the fold of the log")
        check(again == state, "P7: the stored log gives the same state")
        check(state.sequence == len(self.log), "the sequence counts the entries")

    def _check_intents(self, decision: Decision) -> None:
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

    def _check_inputs(self, before: SagaState | None, happened: Input, decision: Decision) -> None:
        failed = [entry for entry in decision.entries if isinstance(entry, log.SagaFailed)]
        if isinstance(happened, CancelAsked | RecallAsked):
            assert before is not None
            is_past = before.status is not SagaStatus.RUNNING or self._is_pivot_attempted()
            code = "CANCELLED" if isinstance(happened, CancelAsked) else "PARENT_FAILED"
            is_turned = any(entry.cause.code == code for entry in failed)
            check(
                is_turned is not is_past,
                "a cancel turns a running saga, unless its pivot was attempted",
            )
            if before.status is SagaStatus.RUNNING and is_past:
                check(isinstance(decision.answer, Refusal), "a cancel after the pivot's attempt is refused")
        if isinstance(happened, OutcomeReported) and happened.outcome == Succeeded(MADE_UP):
            check(isinstance(decision.answer, Refusal), "a report of what was never attempted is refused")
            told = decision.state.step(happened.step).told
            check(not [kind for kind, _ in told if kind is happened.operation], "and it is not believed")
        if isinstance(happened, RecallAsked):
            assert before is not None
            is_undone = any(isinstance(entry, log.SagaRecalled) for entry in decision.entries)
            is_completed = before.status is SagaStatus.COMPLETED
            check(
                is_undone == (is_completed and not self.pivot),
                "a completed saga is undone, unless it has a pivot",
            )
            check(
                isinstance(decision.answer, Refusal) or not is_completed or is_undone,
                "a recall that nothing follows is refused",
            )
        if isinstance(happened, OwnershipGained) and before is not None and before.status not in SETTLED:
            check(decision.entries, "P8: an adoption takes the sequence that the previous owner would take")

    def _check_events(self, before: SagaState | None, happened: Input, decision: Decision) -> None:
        if before is not None and isinstance(happened, EventArrived) and before.status not in SETTLED:
            check(happened.event_id in self.watch.arrived, f"{happened.event_id} has come, and is forgotten")
        if decision.state.status is not SagaStatus.RUNNING:
            return
        begun = {entry.step for entry in decision.entries if isinstance(entry, log.WaitStarted)}
        is_new_here = isinstance(happened, OwnershipGained)
        looked_for = {
            (effect.event, effect.correlation)
            for effect in decision.effects
            if isinstance(effect, LookForEvent)
        }
        for key in self.watch.open_waits:
            correlation = self.foreseen.correlation(key)
            if correlation and (is_new_here or key in begun):
                wanted = (self.foreseen.leaves[key].spec["await_event"]["event"], correlation)
                check(
                    wanted in looked_for, f"nobody looks whether the event that {key} waits for came before"
                )

    def _is_pivot_attempted(self) -> bool:
        return self.pivot is not None and self.heard[self.pivot, ACTION].started > 0

    def _check_turn(self, before: SagaState | None, entries: tuple[log.Entry, ...]) -> None:
        for entry in entries:
            if isinstance(entry, log.SagaFailed | log.SagaRecalled):
                check(self.turned_by is None, "a saga turns once")
                self.turned_by = entry.cause.code
                if entry.cause.step:
                    check(
                        self._on_failure(entry.cause.step) == "compensate",
                        f"the saga turns because of {entry.cause.step}, whose failure does not mean that",
                    )
                if self.pivot is not None:
                    heard = self.heard[self.pivot, ACTION]
                    is_clear = heard.refused + heard.unsent > 0 and not heard.may_have_happened
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

    def _check_takeovers(self, entries: tuple[log.Entry, ...]) -> None:
        deadlines = {
            step: at + seconds(self.steps[step]["deadline"])
            for step, at in self.first_at.items()
            if self.steps[step].get("deadline") is not None
        }
        self.takeovers.decided(entries, deadlines, self._world.now)

    def _check_budgets(self, before: SagaState | None, entries: tuple[log.Entry, ...]) -> None:
        for entry in entries:
            if isinstance(entry, log.AttemptUnknown | log.AttemptUnresolved) and entry.cause.code in (
                "PENDING_TIMEOUT",
                "STEP_DEADLINE",
            ):
                heard = self.heard[entry.step, entry.operation]
                heard.burnt += 1
                heard.doubts.add(entry.attempt)
                heard.is_awaited = False
            if isinstance(entry, log.AttemptUnresolved) and entry.cause.code != "PENDING":
                is_action, most = entry.operation is ACTION, self._attempts_max(entry.step, entry.operation)
                was_hopeless = is_action and before is not None and before.status is not SagaStatus.RUNNING
                burnt = self.heard[entry.step, entry.operation].burnt
                was_hopeless |= is_action and self._is_late_for_another(entry.step, burnt)
                check(
                    was_hopeless or burnt >= most,
                    f"{entry.step} was given up after {burnt} of {most} attempts",
                )
            if isinstance(entry, log.AttemptUnknown):
                heard = self.heard[entry.step, entry.operation]
                self.not_before[entry.step, entry.operation] = entry.retry_at
                if entry.cause.code == LOST:
                    continue
                ceiling = self._pause_max(entry.step, entry.operation, heard.burnt)
                check(0 <= entry.retry_delay_seconds <= ceiling, "the pause is within the policy's backoff")

    def _check_rooms(self, happened: Input, decision: Decision) -> None:
        """P10: what is held is looked after from its time on, and made once there is room, neither before nor long after."""
        now = self._world.now
        held = {
            (entry.step, entry.operation): entry
            for entry in decision.entries
            if isinstance(entry, log.AttemptHeld)
        }
        looks = [each for each in decision.effects if isinstance(each, LookForRoom)]
        for look in looks:
            entry = held.get((look.step, look.operation))
            from_at, until_at = (now, now + 1) if entry is None else (entry.retry_at, entry.retry_at + 1e-6)
            is_timely = from_at <= look.due_at <= until_at
            check(is_timely, f"room for {look.step} is looked for from {look.due_at} on, not {from_at}")
        if isinstance(happened, RoomFound) and decision.state.step(happened.step).is_held:
            is_looked_for = happened.step in [look.step for look in looks] or GoOn() in decision.effects
            is_meant = decision.state.step(happened.step).operation is happened.operation
            check(
                is_looked_for or not is_meant or decision.state.status in SETTLED,
                f"there is room for {happened.step}, and nobody uses it",
            )

    def _check_pauses(self, happened: Input, decision: Decision) -> None:
        for entry in decision.entries:
            operation = (getattr(entry, "step", ""), getattr(entry, "operation", None))
            if isinstance(entry, log.AttemptStarted):
                is_found = (
                    isinstance(happened, RoomFound) and (happened.step, happened.operation) == operation
                )
                check(is_found or operation not in self.held, f"{operation} is held, and made without room")
                self.held.discard(operation)
            if isinstance(entry, log.AttemptHeld):
                self.held.add(operation)
                assert isinstance(happened, AttemptEnded)
                assert isinstance(happened.outcome, Held)
                least = self._world.now + happened.outcome.delay_seconds
                check(entry.retry_at >= least, f"{entry.step} was held, and is not left alone for as long")
            if isinstance(entry, log.AttemptPending):
                operation = (entry.step, entry.operation)
                is_answer = isinstance(happened, AttemptEnded) and isinstance(happened.outcome, Pending)
                is_due = self.polls.get(operation, 0) <= self._world.now
                check(is_answer or is_due, f"{entry.step} is asked about before the time")
                self.polls[operation] = entry.poll_at or 0.0
                deadline = self.steps[entry.step].get("deadline")
                if entry.operation is ACTION and deadline is not None:
                    most = self.first_at[entry.step] + seconds(deadline)
                    check(
                        entry.pending_until is not None and entry.pending_until <= most + 1e-6,
                        f"{entry.step} is awaited beyond its deadline",
                    )

    def _pause_max(self, step: str, kind: OperationKind, burnt: int) -> float:
        retry = self._operation(step, kind)["retry"]
        doubled = seconds(retry["initial_backoff"]) * 2.0 ** max(0, burnt - 1)
        return min(seconds(retry["max_backoff"]), doubled)

    def _is_late_for_another(self, step: str, burnt: int) -> bool:
        """Whether the step's own deadline may come before another attempt of its action."""
        deadline = self.steps[step].get("deadline")
        if deadline is None:
            return False
        passes_at = self.first_at[step] + seconds(deadline)
        return self._world.now + self._pause_max(step, ACTION, burnt) >= passes_at

    def _operation(self, step: str, kind: OperationKind) -> Mapping[str, Any]:
        return CHILD if "saga" in self.steps[step] else self.plan.instances[step].operation(kind)

    def _on_failure(self, key: str) -> str:
        return self.plan.instances[key].on_failure

    def _has_compensation(self, step: str) -> bool:
        return self.plan.instances[step].has_undo

    def _attempts_max(self, step: str, kind: OperationKind) -> int:
        return int(self._operation(step, kind)["retry"]["max_attempts"])

    def _check_effects_grow(self, before: SagaState | None, happened: Input, after: SagaState) -> None:
        for name, step in after.steps.items():
            known = before.step(name).effect if before else 0
            is_pending_refused = (
                before is not None
                and before.step(name).status is StepStatus.WAITING
                and isinstance(happened, AttemptEnded | OutcomeReported)
                and isinstance(happened.outcome, Refused)
            )
            heard = self.heard[name, ACTION]
            is_cleared = heard.accepted and heard.refused and not heard.may_have_happened
            check(
                step.effect >= known or is_pending_refused or is_cleared,
                f"the known effect of {name} has shrunk",
            )
            if heard.may_have_happened and after.adoption is None:
                check(step.effect > EffectKnown.NONE, f"{name} may have happened, and that was forgotten")
            if heard.succeeded:
                check(step.effect is EffectKnown.CERTAIN, f"{name} has happened, and that was forgotten")

    def _check_moves(self, decision: Decision) -> None:
        if decision.state.status in SETTLED or GoOn() in decision.effects:
            return
        timers = [effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)]
        calls = any(isinstance(effect, Invoke | LookForRoom) for effect in decision.effects)
        is_waiting = decision.state.status is SagaStatus.RUNNING and self.watch.open_waits
        held = {operation for operation in self._world.looking if decision.state.step(operation[0]).is_held}
        is_moving = timers or self.open or calls or is_waiting or held
        check(is_moving, f"P1: nothing will ever happen to this saga again: {decision.state}")
        deadline_at = decision.state.deadline_at
        is_left_to_a_person = any(self._on_failure(key) == "pause" for key in self.watch.failed)
        if (
            decision.state.status is SagaStatus.RUNNING
            and deadline_at
            and not self._is_pivot_attempted()
            and not is_left_to_a_person
        ):
            is_pivot_next = any(
                isinstance(effect, Invoke) and effect.step == self.pivot for effect in decision.effects
            )
            check(deadline_at > self._world.now or is_pivot_next, "a deadline that has passed is noticed")
            check(is_pivot_next or min(timers) <= deadline_at, "a deadline has a timer")

    def _check_repetition(self, happened: Input, decision: Decision) -> None:
        state = decision.state
        if (
            GoOn() in decision.effects
            or not isinstance(happened, AttemptEnded | OutcomeReported)
            or happened.outcome == Succeeded(MADE_UP)
        ):
            return
        if isinstance(
            happened.outcome, Unknown | Pending | Held
        ):  # says nothing that a repetition could repeat
            return
        again = core.decide(self._world.definition, state, happened, self._world.now, 0.5)
        check(not again.entries and again.state == state, f"P9: told twice, {happened} moved something again")
        check(isinstance(again.answer, NotApplied | Refusal), "P9: a repetition is answered as one")

    def _check_invocation(self, invoke: Invoke, decision: Decision, now: float) -> None:
        step, kind = invoke.step, invoke.operation
        operation = (step, kind)
        check(step in self.steps, f"{step} is called, which never was to run")
        payload = json.dumps(invoke.input)
        told = self.keys.setdefault(operation, (invoke.idempotency_key, payload))
        check(
            told == (invoke.idempotency_key, payload),
            "P5: every attempt has the same key and the same input",
        )
        owners = {other for other, (key, _) in self.keys.items() if key == invoke.idempotency_key}
        check(owners == {operation}, "P5: no two operations share a key")
        check(
            invoke.timeout_seconds == seconds(self._operation(step, kind).get("timeout", "10s")),
            f"an attempt of {operation} has another time than its operation's: it would be cut off",
        )
        heard = self.heard[operation]
        if invoke.is_poll:
            check("saga" in self.steps[step], "only what says so is asked about")
            check(heard.is_awaited, f"{operation} is asked about, and is not awaited")
            return
        check(heard.burnt < self._attempts_max(step, kind), f"{operation} is attempted beyond its budget")
        check(invoke.attempt == heard.started + 1, "attempts are counted one by one")
        check(self.not_before.get(operation, 0) <= now, "no retry before its time")
        check(not heard.succeeded, "what has succeeded is not attempted again")
        is_given_up = kind is COMPENSATION and step in self.watch.given_up
        check(not is_given_up, f"the compensation of {step} was given up, and is attempted again")
        if kind is ACTION:
            missing = [other for other in self.foreseen.before[step] if not self._is_over(other)]
            check(not missing, f"{step} starts before {missing} are over")
            check(self.watch.is_wanted(step), f"{step} runs although its condition does not hold")
            self._check_time_left(invoke, now)
            return
        self._check_what_it_is_handed(invoke)
        self._check_undoing(step, now)

    def _check_what_it_is_handed(self, invoke: Invoke) -> None:
        """A compensation gets what its action returned, if that was known when it was first attempted."""
        wanted = self._operation(invoke.step, COMPENSATION).get("input")
        output = self.undone_with.setdefault(invoke.step, self.outputs.get(invoke.step))
        if wanted is None:
            check(invoke.input == output, f"the compensation of {invoke.step} is handed {invoke.input}")
        elif "ref" in wanted:
            handed = (invoke.input["ref"], invoke.input["why"])
            known = (output and output["ref"], self.turned_by)
            check(handed == known, f"the compensation of {invoke.step} is handed {handed}, not {known}")

    def _is_over(self, key: str) -> bool:
        """Whether what comes after the instance may start."""
        if self.watch.is_over(key):
            return True
        if key not in self.steps:
            return False
        return self.heard[key, ACTION].succeeded > 0

    def _check_time_left(self, invoke: Invoke, now: float) -> None:
        deadline = self.steps[invoke.step].get("deadline")
        if deadline is not None:
            left = self.first_at.get(invoke.step, now) + seconds(deadline) - now
            check(left > 0, f"{invoke.step} is attempted after its deadline")

    def _check_parallel(self, decision: Decision) -> None:
        """No more calls at once than the definition allows, and no more items than their loop does."""
        started = [effect for effect in decision.effects if isinstance(effect, Invoke) and not effect.is_poll]
        if not started:
            return
        under_way = {
            (call.invoke.step, call.invoke.operation)
            for call in self.open.values()
            if call not in self.decided_early and decision.state.step(call.invoke.step).is_in_flight
        }
        under_way |= {(call.step, call.operation) for call in started}
        check(
            not self.max_parallel or len(under_way) <= self.max_parallel, f"{under_way} are too many at once"
        )
        for loop in self.foreseen.loops:
            limit = loop.spec["for_each"].get("max_parallel", 0)
            begun = [
                item.index
                for item in loop.runs
                if (members := self.foreseen.members(item))
                and (
                    self.watch.begun & members
                    if self.turned_by is None
                    else members & {key for key, _ in under_way}
                )
                and not (self.turned_by is None and all(self._is_over(key) for key in members))
            ]
            check(
                not limit or len(begun) <= limit,
                f"items {begun} of {loop.key} are under way at once",
            )

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
            if self.plan.instances[later].is_undo_optional:
                is_over = is_over or later in self.watch.given_up
            check(not undoing.started or is_over, f"P3: {step} is compensated before {later}")
            if self._has_compensation(later) and doing.may_have_happened:
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
                undone = [key for key in self.foreseen.leaves if not self._is_over(key)]
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
                if self.takeovers.is_parked_for_them:
                    pass
                elif self.turned_by is not None:
                    check(remaining, "P1: nothing remains, and it waits for a person")
                    self._check_nothing_left_undone(standing)
                else:
                    self._check_held_up()
                check(
                    remaining <= standing | unsure | wanted,
                    f"P2: {remaining - standing} do not stand and are listed",
                )
        for call in self.open.values():
            is_known = call in self.decided_early or state.status is SagaStatus.NEEDS_ATTENTION
            check(call.invoke.operation is ACTION or is_known, "no end while a compensation is in flight")

    def _check_held_up(self) -> None:
        """A saga that is parked on its way forward has a failure that is neither the way forward nor the way back."""
        failed = {key for key in self.watch.failed if not self._is_over(key)}
        if self.pivot is not None and not self.heard[self.pivot, ACTION].may_have_happened:
            failed -= {self.pivot} if self._on_failure(self.pivot) == "compensate" else set()
        check(failed, "P1: no failure holds it up, and it waits for a person")

    def _check_nothing_left_undone(self, standing: set[str]) -> None:
        """What stands and could be undone was tried, unless it waits for one after it that could not be undone."""
        for key in standing:
            if not self._has_compensation(key) or key in self.watch.given_up:
                continue
            holding = {
                later
                for later in self.after[key]
                if (later in standing or self._may_be_wanted(later))
                and self._has_compensation(later)
                and not (self.plan.instances[later].is_undo_optional and later in self.watch.given_up)
            }
            check(holding, f"P2: {key} stands, nothing held up its compensation, and it never came")

    def _may_be_wanted(self, key: str) -> bool:
        """Whether it was refused and is to be undone even so, or accepted and never heard of again."""
        action = self.heard[key, ACTION]
        is_wanted = action.pending or (self.steps[key].get("compensate_on_refusal") and action.refused)
        return bool(is_wanted) and not self.heard[key, COMPENSATION].succeeded

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
            for name, site in world.participants.sites.items()
            if site.has_effect and not self.steps[name].get("read_only")
        }
        match state.status:
            case SagaStatus.COMPLETED:
                undone = {key for key, site in world.participants.sites.items() if not site.is_applied}
                check(undone <= self.watch.failed | self.watch.skipped, "P2: completed, but not done")
                check(
                    not any(site.is_undone for site in world.participants.sites.values()),
                    "P2: completed, but undone",
                )
            case SagaStatus.COMPENSATED:
                check(not real, f"P2: compensated, but {real} really stand")
            case _:
                check(
                    real <= set(state.remaining),
                    f"P2: {real - set(state.remaining)} stand and are not listed",
                )


def _stored(entry: StoredEntry) -> StoredEntry:
    return replace(entry, body=json.loads(json.dumps(entry.body)))


def play(
    random: Random,
    witness: type[Oracle] | None = None,
    *,
    flaps: Sequence[float] = (0.0,),
    about: tuple[str, ...] = (),
) -> Oracle:
    """Plays one random story under the oracle's eyes. Raises `Breach`, or another AssertionError of the world's.

    By one of the probabilities `flaps` a coordinator that makes a call is lost with it. `about`: see `random_source`.
    """
    source = random_source(random, about=about)
    given = random_input(random.randrange(12), random, begins_at=BEGIN)
    oracle = (witness or Oracle)(source, given)
    oracle.world = world = World(random, source, given, oracle, flaps=random.choice(flaps))
    world.run()
    oracle.check_truth(world)
    assert world.state is not None
    oracle.check_log(world.state)
    return oracle
