"""Drives the sagas in memory: decides what follows from inputs, performs the effects, and lets go of sagas that rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from saga_coordinator.engine.advance import Advance, Advanced
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.log_lines import LogLines
from saga_coordinator.engine.performing import Performing
from saga_coordinator.engine.ports import Performers
from saga_coordinator.engine.runs import Posted, Run, Runs
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.lifecycle import Background
from saga_coordinator.saga.machine.effects import Decision, Finish
from saga_coordinator.saga.machine.inputs import Input, OwnershipGained
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.errors import OwnershipLost, Unavailable

_log = structlog.get_logger(__name__)


class Parents(Protocol):
    """The way to the sagas that run other sagas."""

    def child_settled(self, run: Run) -> None:
        """Tells the parent of a saga, if it has one, that the saga has settled."""


class Drive:
    """Moves the sagas in memory, each of them by one task at a time."""

    def __init__(
        self,
        advance: Advance,
        performers: Performers,
        parents: Parents,
        runs: Runs,
        wakeup: Wakeup,
        lease: Lease,
        log_lines: LogLines,
    ) -> None:
        self._advance = advance
        self._performers = performers
        self._parents = parents
        self._runs = runs
        self._wakeup = wakeup
        self._lease = lease
        self._log_lines = log_lines
        self._performing = Performing(performers, runs, lease, self)
        self._moves = Background()

    def take(self, run: Run, advanced: Advanced) -> None:
        """Keeps a saga that this coordinator has just started, and performs what follows from the start."""
        self._log_lines.started(run)
        if run.saga_id not in self._runs:  # else its row was claimed before the answer to its start came in
            self._runs.keep(run)
            self._perform(run, advanced)

    def leave(self, run: Run) -> None:
        """Forgets a saga whose start became durable only after the lease had run out: another coordinator may own it."""
        self._log_lines.started(run)
        self._wakeup.reconcile_soon()

    def adopt(self, run: Run, previous_owner: str | None) -> asyncio.Future[Decision] | None:
        """Keeps a saga that this coordinator has just claimed, and goes on where its log ends. Returns what it decides.

        A claim takes only what nobody drives, so an older run of the same saga is out of date.
        """
        if before := self._runs.get(run.saga_id):
            self._runs.drop(before)
        self._runs.keep(run)
        if run.state.status in SETTLED:
            self._moves.spawn("rest", self._put_to_rest(run))
            return None
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        decided.add_done_callback(_hear)
        self._post(run, OwnershipGained(previous_owner, self._performers.worker_names), decided)
        return decided

    def post(self, run: Run, given: Input) -> None:
        """Advances the saga by an input soon, in a task of its own."""
        self._post(run, given, None)

    def _post(self, run: Run, given: Input, decided: asyncio.Future[Decision] | None) -> None:
        if run.post(given, decided):
            self._moves.spawn("move", self._move(run))

    async def advance(self, run: Run, given: Input) -> None:
        """Advances the saga by an input in the caller's task, unless another task does so already."""
        if run.post(given):
            await self._move(run)

    async def ask(self, run: Run, given: Input) -> Decision:
        """Advances the saga by an input. Returns the decision once it is committed.

        Raises:
            OwnershipLost: this coordinator does not own the saga any more. Look for the saga again.
            Unavailable: this coordinator is stopping while the database is away.
        """
        if not self._lease.may_act:
            await self._lease.wait_until_valid()
        if run.is_dropped:
            raise OwnershipLost(f"saga {run.saga_id} was let go")
        decided: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._post(run, given, decided)
        return await decided

    def look_again(self, participant: str) -> None:
        """Makes the sagas in memory that wait for room at the participant look for it at once, because there may be some."""
        self._performing.look_again(participant)

    def give_up(self, run: Run, error: Exception) -> None:
        """Lets go of a saga that cannot go on here."""
        self._give_up(run, error, ())

    async def finish_calls(self, grace_seconds: float) -> None:
        """Gives calls in flight their time, then cuts off those that remain. Their outcomes are then unknown."""
        await self._performing.finish(grace_seconds)

    async def finish_moves(self) -> None:
        """Returns once all inputs that were posted so far are decided and committed."""
        await self._moves.finish()

    def drop_idle(self) -> None:
        """Lets go of all sagas without an attempt in flight."""
        for run in self._runs:
            if not run.is_in_flight:
                self._runs.drop(run)

    def drop_all(self) -> None:
        """Lets go of all sagas."""
        for run in self._runs:
            self._runs.drop(run)

    async def _move(self, run: Run) -> None:
        """Advances the saga until it has no more inputs. Only one task at a time does this for a saga."""
        while posted := run.take_posted():
            before = run.state.status
            try:
                advanced = await self._advance.advance(run, [given for given, _ in posted])
            except Exception as error:  # noqa: BLE001 - one saga's trouble is not another's
                self._give_up(run, error, posted)
                return
            run.tell_watchers()
            self._log_lines.moved(run, before)
            self._answer(run, posted, advanced)
            if not run.is_dropped:
                self._perform(run, advanced)

    def _answer(self, run: Run, posted: Sequence[Posted], advanced: Advanced) -> None:
        """Gives each decision to whoever asked for it, and puts back the inputs that were not decided yet."""
        taken = len(advanced.decisions)
        if taken < len(posted):
            run.put_back(posted[taken:])
        is_owner = self._lease.may_act
        for (_, decided), decision in zip(posted[:taken], advanced.decisions, strict=True):
            if decided is None or decided.done():
                continue
            if decision.entries or is_owner:
                decided.set_result(decision)
            else:  # nothing was written, so nothing has proved that this state is not an old one
                decided.set_exception(OwnershipLost(f"saga {run.saga_id} may have been taken"))

    def _give_up(self, run: Run, error: Exception, posted: Sequence[Posted]) -> None:
        match error:
            case OwnershipLost():
                _log.info("ownership_lost", saga_id=run.saga_id, reason=str(error))
                self._wakeup.reconcile_soon()
            case Unavailable():
                _log.warning("saga_left_to_others", saga_id=run.saga_id, reason=str(error))
            case _:
                # A defect, or data that cannot be stored: keep it from the others, and have it tried again later.
                _log.exception("saga_stuck", saga_id=run.saga_id, exc_info=error)
                self._runs.stick(run.saga_id)
        for _, decided in posted:
            if decided is not None and not decided.done():
                decided.set_exception(error)
        self._runs.drop(run)

    async def _put_to_rest(self, run: Run) -> None:
        try:
            await self._advance.put_to_rest(run)
        except (OwnershipLost, Unavailable) as error:
            _log.info("not_put_to_rest", saga_id=run.saga_id, reason=str(error))
            self._wakeup.reconcile_soon()
        except Exception:  # noqa: BLE001 - such as a commit that was refused: have it tried again later
            _log.exception("saga_stuck", saga_id=run.saga_id)
            self._runs.stick(run.saga_id)
        self._runs.drop(run)

    def _perform(self, run: Run, advanced: Advanced) -> None:
        if advanced.is_asleep:
            self._runs.drop(run)
            return
        run.set_timer(None)
        for effect in advanced.effects:
            if isinstance(effect, Finish):
                self._finish(run, effect.status)
            else:
                self._performing.perform(run, effect)

    def _finish(self, run: Run, status: SagaStatus) -> None:
        self._log_lines.ended(run, status)
        self._parents.child_settled(run)
        self._runs.drop(run)


def _hear(decided: asyncio.Future[Decision]) -> None:
    """Reads the error of a decision that nobody awaits, so that asyncio does not report it. The saga has dealt with it."""
    if not decided.cancelled():
        decided.exception()
