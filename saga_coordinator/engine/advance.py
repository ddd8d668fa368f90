"""The one write path: decide, append, then hand out the effects, in that order (P6).

No other module appends to the journal. The inputs of one saga are decided one after the other. Inputs that gather while an append
is under way are decided together and share the next append.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from saga_coordinator.engine.deciding import decided
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.recording import act_records
from saga_coordinator.engine.runs import Run
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.effects import (
    Decision,
    Effect,
    Finish,
    GoOn,
    Invoke,
    LookForEvent,
    LookForRoom,
    SetTimer,
)
from saga_coordinator.saga.machine.entries import Entry
from saga_coordinator.saga.machine.inputs import Input, StartRequested
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.act import ActRecord
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.meter import DECISION_MAX
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.appends import Append, Move, Start
from saga_coordinator.store.journal import Journal

SLEEP_AFTER_SECONDS = 5.0
"""A saga that has nothing to do for longer than this is let go. Until it is due, it takes no memory and has no owner."""

LOOK_OVER_AFTER_SECONDS = 86_400.0
"""The seconds between two looks at a saga that waits for an event or a person without a timeout."""

_WORK_PER_DECISION = 1000
"""The work of any decision, however small, in the units of `meter`."""

_AT_ONCE = (Invoke, LookForEvent)
_LASTING = (SetTimer, GoOn, Finish)
_STAYING = (*_AT_ONCE, LookForRoom, GoOn)
"""Effects whose end brings the next decision. A saga stays in memory until then."""


@immutable
class Advanced:
    """The result of some inputs: a decision for each input, the effects to perform, and whether the saga was let go to sleep."""

    decisions: tuple[Decision, ...]
    effects: tuple[Effect, ...]
    is_asleep: bool = False


@immutable
class Starting:
    """A new saga on its way to the log, and what to do once it is there. The result of `committed` is its `recorded_at`."""

    run: Run
    advanced: Advanced
    committed: asyncio.Future[float | None]


class Advance:
    """Decides and appends for one coordinator."""

    def __init__(self, journal: Journal, lease: Lease, *, dice: random.Random) -> None:
        self._journal = journal
        self._lease = lease
        self._dice = dice
        self._may_call = True

    def stop_calling(self) -> None:
        """Stops beginning attempts, because this coordinator is stopping. Other coordinators make the attempts that are due."""
        self._may_call = False

    async def first(self, definition: Definition, request: StartRequested, *, may_call: bool) -> Decision:
        """Decides what follows from a start. `start` makes the decision durable."""
        may_call = may_call and self._may_call
        return await decided(
            definition, None, request, self._lease.now(), self._dice.random(), may_call=may_call
        )

    def start(
        self,
        namespace: Namespace,
        definition: Definition,
        request: StartRequested,
        decision: Decision,
        start_key: str,
        request_digest: bytes,
        *,
        may_call: bool,
    ) -> Starting:
        """Makes a new saga durable. If no attempts may be made here, the saga is queued for a coordinator with room.

        Raises, here or from what is `committed`:
            StartKeyTaken: the key belongs to another saga.
            Unavailable: the database is away. The start may have become durable all the same.
        """
        may_call = may_call and self._may_call
        run = Run(request.saga_id, namespace, definition, decision.state)
        state = decision.state
        start = Start(
            start_key=start_key,
            request_digest=request_digest,
            definition=definition.name,
            version=request.version,
            labels=dict(state.labels),
            deadline_at=state.deadline_at,
        )
        wake_at = self._wake_at(decision.effects, state, may_call)
        move = _move(state, wake_at)
        committed = self._journal.submit(Append(run.saga_id, namespace, 1, decision.entries, start, move))
        return Starting(run, Advanced((decision,), decision.effects, wake_at is not None), committed)

    async def advance(self, run: Run, inputs: Sequence[Input], *, may_call: bool = True) -> Advanced:
        """Decides what follows from the first of `inputs`, and commits it. `run.state` is the new state when this returns.

        At least one input is decided, and no more of them than the event loop should decide at a stretch: `decisions` has one
        decision for each. If no attempts may be made here, the saga is queued for the coordinator that claims it.

        Raises:
            OwnershipLost: another coordinator has written to the saga (P8).
            Unavailable: the journal was stopped while the database is away.
        """
        may_call = may_call and self._may_call
        before = state = run.state
        entries: list[Entry] = []
        invocations: list[Effect] = []
        looks: list[LookForRoom] = []
        last: tuple[Effect, ...] = ()
        decisions: list[Decision] = []
        work = 0
        for given in inputs:
            if work >= DECISION_MAX:
                break
            decision = await decided(
                run.definition,
                state,
                given,
                self._lease.now(),
                self._dice.random(),
                may_call=may_call,
            )
            state = decision.state
            work += decision.work + _WORK_PER_DECISION
            entries += decision.entries
            decisions.append(decision)
            invocations += [effect for effect in decision.effects if isinstance(effect, _AT_ONCE)]
            looks += [effect for effect in decision.effects if isinstance(effect, LookForRoom)]
            last = tuple(effect for effect in decision.effects if isinstance(effect, _LASTING))
        if looks or run.held:
            last = run.held.follow(state, looks, last, self._lease.now())
        wake_at = self._wake_at((*invocations, *last), state, may_call, is_asking=run.inquiries > 0)
        is_told = (state.status, state.remaining, state.failure) == (
            before.status,
            before.remaining,
            before.failure,
        )
        is_moved = wake_at is not None or not is_told
        acts = act_records(inputs, decisions, before.status)
        if entries or is_moved or acts:
            settled_as = before.status if before.status in SETTLED else None
            move = _move(state, wake_at, settled_as) if is_moved else None
            recorded_at = await self._journal.append(
                Append(run.saga_id, run.namespace, before.sequence + 1, entries, move=move, acts=acts)
            )
            run.become(state)
            run.committed(recorded_at)
        else:
            run.become(state)
        return Advanced(tuple(decisions), (*invocations, *last), wake_at is not None)

    async def record(self, saga_id: str, act: ActRecord) -> None:
        """Makes the record of an act durable if the act left no entry, because the saga's status alone decided it."""
        await self._journal.append(Append(saga_id, act.act.namespace, 1, (), acts=(act,)))

    async def put_to_rest(self, run: Run) -> None:
        """Brings the row of a settled saga in line with its log, if the saga's last owner could not."""
        await self._journal.append(
            Append(run.saga_id, run.namespace, run.state.sequence + 1, (), move=_move(run.state, None))
        )

    def _wake_at(
        self, effects: Sequence[Effect], state: SagaState, may_call: bool, *, is_asking: bool = False
    ) -> float | None:
        """The instant at which the saga has to be taken up again if it is let go now; None if it stays in memory."""
        if state.status in SETTLED or state.in_flight:
            return None
        now = self._lease.now()
        if not may_call:
            return now
        if is_asking or any(isinstance(effect, _STAYING) for effect in effects):
            return None
        nothing_due = now + LOOK_OVER_AFTER_SECONDS
        due_at = next((effect.due_at for effect in effects if isinstance(effect, SetTimer)), nothing_due)
        return due_at if due_at - now > SLEEP_AFTER_SECONDS else None


def _move(state: SagaState, wake_at: float | None, settled_as: SagaStatus | None = None) -> Move:
    is_owned = state.status not in SETTLED and wake_at is None
    return Move(state.status, state.failure, state.remaining, is_owned, wake_at, settled_as)
