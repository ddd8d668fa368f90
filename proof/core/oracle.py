"""What must be true of every story, seen from outside: calls, answers, the participants' truth, and the committed entries.

It reads definitions in their JSON form and knows nothing of how the core works. Each check names the promise or
the rule of docs/concepts.md that it stands for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from proof.core.breach import check
from proof.core.definitions import random_source
from proof.core.foreseen import Foreseen
from proof.core.hearing import Hearing
from proof.core.judge_attempts import Attempts
from proof.core.judge_calls import Calls
from proof.core.judge_ends import Ends
from proof.core.judge_moves import Moves
from proof.core.takeovers import Takeovers
from proof.core.world import BEGIN, Call, Witness, World
from proof.definitions import random_input
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.machine import state as states
from saga_coordinator.saga.machine.effects import Decision, Finish, Invoke
from saga_coordinator.saga.machine.inputs import Input
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, encode
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus

GOING_ON = (log.SagaRecalled, log.SagaUnparked, log.UndoUnparked)
"""Entries by which a saga moves that nothing had moved by itself."""


class Oracle(Witness):
    def __init__(self, source: dict[str, Any], given: dict[str, Any]) -> None:
        self.told = Hearing(Foreseen(source, given))
        self.takeovers = Takeovers()
        self.moves = Moves(self.told)
        self.attempts = Attempts(self.told)
        self.calls = Calls(self.told, source.get("max_parallel", 0))
        self.ends = Ends(self.told)
        self.world: World | None = None
        self.log: list[log.Entry] = []
        self.rows: Counter[Any] = Counter()
        """Rows of the tables that this story has used."""
        self.pairs: Counter[Any] = Counter()
        """(saga status, type of input) that it has met."""

    def called(self, call: Call) -> None:
        self.told.called(call)

    def decided(
        self, before: SagaState | None, happened: Input, decision: Decision, *, may_call: bool
    ) -> None:
        assert self.world is not None
        now = self.world.now
        self.pairs[before and before.status, type(happened)] += 1
        self.told.hear(before, happened)
        self.log += decision.entries
        self._check_fold(before, decision)
        self.told.watch.decided(happened, decision.entries, now)
        self.calls.check_intents(decision)
        self.moves.decided(before, happened, decision, now)
        self._check_takeovers(decision.entries, now)
        self.attempts.decided(before, happened, decision, now)
        self.ends.check_effects_grow(before, happened, decision.state)
        if may_call:
            self.moves.went_on(happened, decision, self.world)
        for invoke in (effect for effect in decision.effects if isinstance(effect, Invoke)):
            self.calls.made(invoke, now)
            if not invoke.is_poll:
                self.attempts.made(invoke, now)
        self.calls.check_parallel(decision)
        self._check_end(before, decision)

    def _check_end(self, before: SagaState | None, decision: Decision) -> None:
        is_going_on = any(isinstance(entry, GOING_ON) for entry in decision.entries)
        is_parked = before is not None and before.status is SagaStatus.NEEDS_ATTENTION
        status = decision.state.status
        if before is not None and before.status in SETTLED and not (is_going_on or is_parked):
            check(status is before.status, "P1: an end is an end")
        elif status in SETTLED:
            check(decision.effects == (Finish(status),), "an end is told, and nothing else")
            is_theirs = self.takeovers.is_parked_for_them
            self.ends.check_end(decision.state, is_parked_for_takeovers=is_theirs)

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

    def _check_takeovers(self, entries: tuple[log.Entry, ...], now: float) -> None:
        deadlines = {
            step: deadline
            for step in self.told.first_at
            if (deadline := self.told.deadline_of(step)) is not None
        }
        self.takeovers.decided(entries, deadlines, now)


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
    oracle.ends.check_truth(world)
    assert world.state is not None
    oracle.check_log(world.state)
    return oracle
