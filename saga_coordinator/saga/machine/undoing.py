"""The way back of a saga: what can be undone. It is brought up to date with each entry.

Every touched instance is a `Part`. A part is unfinished while it has to be undone or is in flight. An unfinished part blocks
all parts that it depends on. A part that no other part blocks is offered: its compensation may start. If the part runs blocks,
the parts in those blocks may be offered instead, in the loop's order.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from saga_coordinator.saga.definition.model import Definition, ForEach, Step
from saga_coordinator.saga.machine.place import (
    Node,
    Place,
    Position,
    is_touched,
    outermost,
    place_at,
    position_of,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState, needs_compensation
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.identity import OperationKind

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
LONG_AGO = float("-inf")


def is_unfinished(step: Step, state: StepState) -> bool:
    """Tells whether the steps that this step depends on have to wait for it (P3, P4)."""
    if state.is_in_flight:
        return True
    if not needs_compensation(step, state):
        return False
    is_given_up = state.status is StepStatus.FAILED and state.operation is _COMPENSATION
    return not (is_given_up and step.is_undo_optional)


def may_be_undone(step: Step, state: StepState) -> bool:
    """Tells whether the step's compensation is needed and has not begun."""
    return not state.is_in_flight and state.operation is _ACTION and needs_compensation(step, state)


def unseen_until(state: StepState) -> float:
    """The instant from which no attempt of the action can be in flight unseen. It is `LONG_AGO` if no attempt can be, or if the
    action's outcome was told.
    """
    if state.settles_at is None or state.is_output_known or state.is_refused:
        return LONG_AGO
    return state.settles_at


@dataclass(slots=True, eq=False)
class Part:
    """A touched instance. `blockers` counts the unfinished parts that depend on it in its run of the block."""

    node: Node
    run: Run
    loop: Loop | None = None
    blockers: int = 0
    is_unfinished: bool = False
    is_wanted: bool = False
    """True if the part's compensation is needed and has not begun."""
    is_open: bool = False
    is_offered: bool = False
    settles_at: float = LONG_AGO
    unseen_until: float = LONG_AGO


@dataclass(slots=True, eq=False)
class Run:
    """One run of a block. `unfinished`, `open` and `offered` count its parts. `open` and `offered` also count the parts in the
    blocks below.

    `unseen` names the steps with an attempt that may be in flight, here or below, although the coordinator no longer waits for
    its end.
    """

    place: Place
    loop: Loop | None
    index: int
    parts: dict[str, Part] = field(default_factory=dict)
    unfinished: int = 0
    open: int = 0
    offered: int = 0
    is_enabled: bool = False
    unseen: set[str] = field(default_factory=set)

    @property
    def is_busy(self) -> bool:
        """Tells whether the run takes one of the loop's places, because something in it is in flight or can be undone."""
        return self.open > 0 or self.offered > 0


@dataclass(slots=True, eq=False)
class Loop:
    """The runs of a part that runs blocks.

    `waiting` lists the indexes of the unfinished runs that may not be undone yet; the last of them comes next. In a loop whose
    runs follow each other, `current` is the run that has to be undone before the next one may begin. `busy` holds the runs that
    take a place. `limit` is the number of places; 0 sets no limit.
    """

    part: Part
    runs: dict[int, Run] = field(default_factory=dict)
    unfinished: int = 0
    limit: int = 0
    is_enabled: bool = False
    current: int | None = None
    busy: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    unseen: set[int] = field(default_factory=set)


class Undoing:
    """The way back of one saga."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self._definition = definition
        self._runs: dict[tuple[str, int], Run] = {}
        self._ready: list[tuple[Position, str]] = []
        self._held: list[tuple[float, Position, str]] = []
        self._root = self._build(state, outermost(definition), None, 0)
        self._enable(self._root)

    @property
    def is_over(self) -> bool:
        """Tells whether nothing is in flight and nothing can be undone, neither now nor by waiting."""
        return not self._root.is_busy

    def ready(self, now: float) -> Node | None:
        """The first instance whose compensation may start; None when there is none."""
        while self._held and self._held[0][0] <= now:
            heapq.heappush(self._ready, heapq.heappop(self._held)[1:])
        while self._ready:
            position, key = self._ready[0]
            part = self._find(key)
            if not part.is_offered:
                heapq.heappop(self._ready)
            elif (held_until := self._held_until(part)) > now:
                heapq.heappop(self._ready)
                heapq.heappush(self._held, (held_until, position, key))
            else:
                return part.node
        return None

    def follow(self, state: SagaState, key: str, after: StepState) -> None:
        """Updates the way back with an entry about that instance."""
        part = self._find(key)
        was_unfinished, was_open = part.is_unfinished, part.is_open
        self._read(part, after, state)
        if part.is_open is not was_open:
            self._count(part.run, open_=1 if part.is_open else -1)
        if part.is_unfinished is not was_unfinished:
            self._spread(part)
        self._offer_or_not(part)

    # Building.

    def _build(self, state: SagaState, place: Place, loop: Loop | None, index: int) -> Run:
        run = Run(place, loop, index)
        self._runs[place.prefix, id(place.block)] = run
        for step in place.block.steps:
            key = place.prefix + step.name
            known = state.steps.get(key)
            if known is not None:
                part = run.parts[step.name] = Part(Node(key, step, place), run)
                if known.opened is not None:
                    self._build_loop(state, part, known)
                self._read(part, known, state)
                run.unfinished += part.is_unfinished
                run.open += part.is_open
                if part.loop is not None:
                    run.open += sum(inner.open for inner in part.loop.runs.values())
        for name, part in run.parts.items():
            part.blockers = sum(
                other in run.parts and run.parts[other].is_unfinished
                for other in place.block.dependents[name]
            )
        return run

    def _build_loop(self, state: SagaState, part: Part, known: StepState) -> None:
        step = part.node.step
        loop = part.loop = Loop(part)
        if step.is_in_turn:
            loop.limit = 1
        elif isinstance(step.action, ForEach):
            loop.limit = step.action.max_parallel
        for index in range(len(known.opened or ())):
            if not is_touched(part.node, index, state):
                continue
            run = self._build(state, place_at(part.node, known, index), loop, index)
            loop.runs[index] = run
            loop.unfinished += run.unfinished > 0
            if run.unseen:
                loop.unseen.add(index)
            if run.open:
                loop.busy.add(index)

    def _find(self, key: str) -> Part:
        name = self._definition.step(key).name
        prefix = key[: len(key) - len(name)]
        return self._runs[prefix, id(self._definition.whereabouts[name].block)].parts[name]

    def _read(self, part: Part, known: StepState, state: SagaState) -> None:
        step = part.node.step
        part.is_open = known.is_open
        if part.loop is not None:
            part.is_unfinished = part.loop.unfinished > 0
            is_unseen = bool(part.loop.unseen)
        else:
            part.is_unfinished = is_unfinished(step, known)
            part.is_wanted = may_be_undone(step, known)
            part.settles_at = LONG_AGO if known.settles_at is None else known.settles_at
            part.unseen_until = unseen_until(known)
            is_unseen = part.unseen_until > LONG_AGO
        if is_unseen is not (step.name in part.run.unseen):
            self._see(part, is_unseen=is_unseen)

    # What changes.

    def _see(self, part: Part, *, is_unseen: bool) -> None:
        """Notes whether an attempt of the part, or of a part below it, may be in flight unseen. If not, the parts that were
        held back for it are ready.
        """
        run: Run | None = part.run
        name = part.node.step.name
        while run is not None:
            (run.unseen.add if is_unseen else run.unseen.discard)(name)
            loop = run.loop
            if loop is None or (run.index in loop.unseen) is bool(run.unseen):
                break
            (loop.unseen.add if run.unseen else loop.unseen.discard)(run.index)
            if bool(loop.unseen) is (loop.part.node.step.name in loop.part.run.unseen):
                break
            name, run = loop.part.node.step.name, loop.part.run
        if not is_unseen:
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

    # Attempts that may be in flight unseen.

    def _held_until(self, part: Part) -> float:
        """The instant before which the part may not be undone, because an attempt that has to end first may still be in flight
        (P4).
        """
        known = [part.settles_at]
        inner: Part | None = part
        while inner is not None:
            run = inner.run
            if run.unseen:
                for name in run.unseen & run.place.block.dependents[inner.node.step.name]:
                    known += self._unseen(run.parts[name])
            loop = run.loop
            if loop is None:
                break
            if loop.part.node.step.is_in_turn:
                for index in loop.unseen:
                    if index > run.index:
                        known += self._unseen_in(loop.runs[index])
            inner = loop.part
        return max(known)

    def _unseen(self, part: Part) -> Iterator[float]:
        if part.loop is None:
            yield part.unseen_until
        else:
            for index in part.loop.unseen:
                yield from self._unseen_in(part.loop.runs[index])

    def _unseen_in(self, run: Run) -> Iterator[float]:
        for name in run.unseen:
            yield from self._unseen(run.parts[name])


def _in_order(loop: Loop) -> list[int]:
    """The unfinished runs, of which the last is undone first."""
    return sorted(index for index, run in loop.runs.items() if run.unfinished)
