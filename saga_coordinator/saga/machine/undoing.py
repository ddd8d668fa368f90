"""The way back of a saga: what can be undone. It is brought up to date with each entry.

Every touched instance is a `Part` of `Touched`. An unfinished part blocks all parts that it depends on. A part that no other part
blocks is offered: its compensation may start. If the part runs blocks, the parts in those blocks may be offered instead, in the
loop's order.
"""

from __future__ import annotations

import bisect
import heapq

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.place import Node, Position, position_of
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.touched import Loop, Part, Run, Touched


class Undoing:
    """The way back of one saga."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self._definition = definition
        self._touched = Touched(definition, state)
        self._ready: list[tuple[Position, str]] = []
        """A heap of the offered parts, the first to be undone in front. An offer that was taken back may still be in it."""
        self._held: list[tuple[float, Position, str]] = []
        """A heap of the offered parts that may not be undone yet, by the instant at which to look again."""
        self._enable(self._touched.root)

    @property
    def is_over(self) -> bool:
        """Tells whether nothing is in flight and nothing can be undone, neither now nor by waiting."""
        return not self._touched.root.is_busy

    def ready(self, now: float) -> Node | None:
        """The first instance whose compensation may start; None when there is none."""
        while self._held and self._held[0][0] <= now:
            heapq.heappush(self._ready, heapq.heappop(self._held)[1:])
        while self._ready:
            position, key = self._ready[0]
            part = self._touched.part(key)
            if not part.is_offered:
                heapq.heappop(self._ready)
            elif (held_until := part.held_until) > now:
                heapq.heappop(self._ready)
                heapq.heappush(self._held, (held_until, position, key))
            else:
                return part.node
        return None

    def follow(self, key: str, after: StepState) -> None:
        """Updates the way back with an entry about that instance."""
        part = self._touched.part(key)
        was_unfinished, was_open = part.is_unfinished, part.is_open
        if part.learn(after):
            self._look_at_held_again()
        if part.is_open is not was_open:
            self._count(part.run, open_=1 if part.is_open else -1)
        if part.is_unfinished is not was_unfinished:
            self._spread(part)
        self._offer_or_not(part)

    def _look_at_held_again(self) -> None:
        for _, position, key in self._held:
            heapq.heappush(self._ready, (position, key))
        self._held.clear()

    def _count(self, run: Run | None, *, open_: int = 0, offered: int = 0) -> None:
        """Changes the counts of the run and of the runs around it. When a place in a loop becomes free, the next run takes
        it.
        """
        while run is not None:
            run.open += open_
            run.offered += offered
            loop = run.loop
            if loop is None:
                return
            if run.is_busy:
                loop.busy.add(run.index)
            elif run.index in loop.busy:
                loop.busy.discard(run.index)
                self._admit(loop)
            run = loop.part.run

    def _spread(self, part: Part) -> None:
        """Blocks the parts that this part depends on when this part becomes unfinished. Unblocks them when it is finished; they
        may have other blockers.
        """
        run, change = part.run, 1 if part.is_unfinished else -1
        run.unfinished += change
        for name in run.place.block.undone_later[part.node.step.name]:
            other = run.parts.get(name)
            if other is not None:
                other.blockers += change
                self._offer_or_not(other)
        loop = run.loop
        if loop is None or run.unfinished != (1 if part.is_unfinished else 0):
            return
        loop.unfinished += change
        if run.unfinished:
            self._reopen(loop, run)
        elif loop.current == run.index:
            loop.current = None
        if loop.part.is_unfinished is not (loop.unfinished > 0):
            loop.part.is_unfinished = loop.unfinished > 0
            self._spread(loop.part)
        self._admit(loop)

    def _offer_or_not(self, part: Part) -> None:
        """Offers the part if its turn has come, else takes the offer back."""
        is_allowed = part.run.is_enabled and part.blockers == 0
        if part.loop is not None:
            if is_allowed and not part.loop.is_enabled:
                self._enable_loop(part.loop)
            elif not is_allowed and part.loop.is_enabled:
                self._disable_loop(part.loop)
            return
        is_offered = is_allowed and part.is_wanted
        if is_offered is part.is_offered or (is_offered and self._is_crowded_out(part.run)):
            return
        part.is_offered = is_offered
        if is_offered:
            key = part.node.key
            position = position_of(self._definition, key, newest_first=True)
            heapq.heappush(self._ready, (position, key))
        self._count(part.run, offered=1 if is_offered else -1)

    def _is_crowded_out(self, run: Run) -> bool:
        """Tells whether the run, or a run around it, has lost its place in the loop to other runs. If so, makes that run wait
        for the next place.
        """
        inner: Run | None = run
        while inner is not None and (loop := inner.loop) is not None:
            if loop.limit and inner.index not in loop.busy and len(loop.busy) >= loop.limit:
                if loop.current == inner.index:
                    loop.current = None
                self._disable(inner)
                bisect.insort(loop.waiting, inner.index)
                return True
            inner = loop.part.run
        return False

    def _enable(self, run: Run) -> None:
        run.is_enabled = True
        for part in tuple(run.parts.values()):
            self._offer_or_not(part)

    def _disable(self, run: Run) -> None:
        run.is_enabled = False
        for part in tuple(run.parts.values()):
            self._offer_or_not(part)

    # Loops.

    def _enable_loop(self, loop: Loop) -> None:
        loop.is_enabled = True
        loop.waiting = _in_order(loop)
        self._admit(loop)

    def _disable_loop(self, loop: Loop) -> None:
        loop.is_enabled, loop.current, loop.waiting = False, None, []
        for run in loop.runs.values():
            if run.is_enabled:
                self._disable(run)

    def _admit(self, loop: Loop) -> None:
        """Enables as many of the newest waiting runs as the loop has places for.

        A run that version 0.1.0 began to undo out of turn takes a place too, so it ends first.
        """
        while loop.is_enabled and loop.waiting and loop.current is None:
            index = loop.waiting[-1]
            if loop.limit and len(loop.busy) - (index in loop.busy) >= loop.limit:
                return
            loop.waiting.pop()
            run = loop.runs[index]
            if run.unfinished:
                loop.current = index if loop.part.node.step.is_in_turn else None
                self._enable(run)

    def _reopen(self, loop: Loop, run: Run) -> None:
        """Takes up a finished run again that late evidence has made unfinished. Where runs follow each other, the older runs
        wait for it.
        """
        if not loop.is_enabled:
            return
        if not loop.part.node.step.is_in_turn:
            if not run.is_enabled:
                bisect.insort(loop.waiting, run.index)
        elif loop.current is None or loop.current < run.index:
            loop.waiting, loop.current = [], None
            for other in loop.runs.values():
                if other.is_enabled and other.index <= run.index:
                    self._disable(other)
            loop.waiting = _in_order(loop)
        elif not run.is_enabled:
            bisect.insort(loop.waiting, run.index)


def _in_order(loop: Loop) -> list[int]:
    """The unfinished runs, of which the last is undone first."""
    return sorted(index for index, run in loop.runs.items() if run.unfinished)
