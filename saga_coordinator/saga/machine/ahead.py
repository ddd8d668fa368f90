"""The way forward of a saga: which steps can start. It is brought up to date with each entry.

A `Tally` counts the steps that are still to come in one run of a block. When a step is over, every step after it has one step
less to wait for; a step that waits for none is ready. When a run is over, its loop has one open run less.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from saga_coordinator.saga.definition.model import Block, Definition, ForEach, OnFailure, Operation, Step
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
from saga_coordinator.saga.machine.step_state import UNTOUCHED, StepState
from saga_coordinator.saga.machine.transitions import StepStatus


def is_over(step: Step, state: StepState) -> bool:
    """Tells whether the steps after this step may start."""
    if state.status is StepStatus.SUCCEEDED or state.status is StepStatus.SKIPPED:
        return True
    return state.status is StepStatus.FAILED and step.on_failure is OnFailure.CONTINUE


def is_passed(step: Step, saga: SagaState, state: StepState) -> bool:
    """Tells whether the step's action has failed and the saga has gone on without it, or back."""
    return state.status is StepStatus.FAILED and (saga.has_turned or is_over(step, state))


class Turn(IntEnum):
    """The kinds of work that an instance of a step can be ready for."""

    START = 1
    BEGIN_ITEM = 2
    CLOSE = 3


class Ready(NamedTuple):
    """An instance that is ready, and for what kind of work. Ordered by the instance's position."""

    position: Position
    turn: Turn
    key: str


@dataclass(slots=True)
class Tally:
    """The counts of one run of a block: how many of its steps are not over, and for how many earlier steps each of them still
    waits.
    """

    place: Place
    loop: Loop | None
    to_come: int = 0
    missing: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Loop:
    """A step that runs blocks. `runs` counts the runs that have begun or may begin. `open_runs` of them are not over: `limit`
    at most, where 0 sets no limit.

    `next_index` is the index of the item that begins next.
    """

    node: Node
    tally: Tally
    runs: int
    limit: int
    open_runs: int = 0
    next_index: int = 0
    is_queued: bool = False

    @property
    def is_done(self) -> bool:
        return self.open_runs == 0 and self.next_index == self.runs


class Ahead:
    """The way forward of one saga. `calls` are ready instances that need room for one more operation; `others` need none."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self._definition = definition
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._loops: dict[str, Loop] = {}
        self.calls: list[Ready] = []
        self.others: list[Ready] = []
        self._failed: list[tuple[Position, str]] = []
        self._root = self._begin(state, outermost(definition), None)

    @property
    def is_over(self) -> bool:
        """Tells whether every step of the saga is over."""
        return self._root.to_come == 0

    def failed(self, state: SagaState) -> Node | None:
        """The first instance, in the order written, whose failure makes the saga fail; None when there is none."""
        while self._failed:
            key = self._failed[0][1]
            if state.step(key).status is StepStatus.FAILED:
                return self.node(key)
            heapq.heappop(self._failed)  # it was reported to have succeeded after all
        return None

    def node(self, key: str) -> Node:
        """The instance with that key. Its block must be running."""
        tally, step = self._find(key)
        return Node(key, step, tally.place)

    def next_item(self, key: str, state: SagaState) -> None:
        """Begins the next item of the list that the step goes through."""
        loop = self._loops[key]
        loop.is_queued = False
        self._enter(loop, state)
        self._queue_item(loop)

    def follow(self, state: SagaState, key: str, before: StepState, after: StepState) -> None:
        """Updates the way forward with an entry about that instance."""
        if after.opened is not None and after.opened is not before.opened:
            self._open(state, key, before)
        if after.status is before.status:
            return
        tally, step = self._find(key)
        if is_over(step, after):
            self._is_over(state, tally, step)
        elif after.status is StepStatus.FAILED:
            heapq.heappush(self._failed, (position_of(self._definition, key), key))

    def _find(self, key: str) -> tuple[Tally, Step]:
        step = self._definition.step(key)
        if self._definition.is_flat:
            return self._root, step
        prefix = key[: len(key) - len(step.name)]
        return self._tallies[prefix, id(self._definition.whereabouts[step.name].block)], step

    def _begin(self, state: SagaState, place: Place, loop: Loop | None) -> Tally:
        """Counts what is to come in a run of a block."""
        tally = Tally(place, loop)
        self._tallies[place.prefix, id(place.block)] = tally
        over: set[str] = set()
        steps = state.steps
        for step in place.block.steps:
            key = place.prefix + step.name
            known = steps.get(key, UNTOUCHED)
            if is_over(step, known):
                over.add(step.name)
                continue
            tally.to_come += 1
            if known.status is StepStatus.PENDING:
                if missing := _missing(step, over):
                    tally.missing[step.name] = missing
                else:
                    self._push(Turn.START, key, step)
            elif known.status is StepStatus.FAILED:
                heapq.heappush(self._failed, (position_of(self._definition, key), key))
            elif known.opened is not None:
                self._resume(state, Node(key, step, place), tally, known)
        return tally

    def _resume(self, state: SagaState, node: Node, tally: Tally, known: StepState) -> None:
        """Takes up a step whose blocks are being run."""
        assert known.opened is not None
        loop = self._loop(node, tally, len(known.opened))
        if isinstance(node.step.action, ForEach):
            for _ in range(_begun_runs(node, known, state)):
                self._enter(loop, state)
        else:
            loop.next_index = loop.runs - 1
            self._enter(loop, state)
        self._queue_item(loop)
        self._close_if_done(loop)

    def _loop(self, node: Node, tally: Tally, runs: int) -> Loop:
        limit = node.step.action.max_parallel if isinstance(node.step.action, ForEach) else 1
        loop = Loop(node, tally, runs, limit)
        self._loops[node.key] = loop
        return loop

    def _open(self, state: SagaState, key: str, before: StepState) -> None:
        opened = state.step(key).opened
        assert opened is not None
        if before.opened is None:
            tally, step = self._find(key)
            loop = self._loop(Node(key, step, tally.place), tally, len(opened))
        else:
            loop = self._loops[key]
            loop.runs = len(opened)
        if isinstance(loop.node.step.action, ForEach):
            self._queue_item(loop)
        else:
            self._enter(loop, state)
        self._close_if_done(loop)

    def _enter(self, loop: Loop, state: SagaState) -> None:
        place = place_at(loop.node, state.step(loop.node.key), loop.next_index)
        loop.next_index += 1
        if self._begin(state, place, loop).to_come:
            loop.open_runs += 1
        else:
            del self._tallies[place.prefix, id(place.block)]

    def _queue_item(self, loop: Loop) -> None:
        """Queues the next item of a loop. It queues one item at a time, so that a list of a thousand items costs nothing
        before there is room.
        """
        has_place = not loop.limit or loop.open_runs < loop.limit
        if not loop.is_queued and has_place and loop.next_index < loop.runs:
            loop.is_queued = True
            index, block = loop.next_index, loop.node.step.blocks[0]
            position = (*position_of(self._definition, loop.node.key), index)
            heapq.heappush(self._heap(block), Ready(position, Turn.BEGIN_ITEM, loop.node.key))

    def _heap(self, block: Block) -> list[Ready]:
        return self.calls if block.begins_with_calls else self.others

    def _push(self, turn: Turn, key: str, step: Step) -> None:
        is_call = turn is Turn.START and isinstance(step.action, Operation)
        heapq.heappush(
            self.calls if is_call else self.others, Ready(position_of(self._definition, key), turn, key)
        )

    def _is_over(self, state: SagaState, tally: Tally, step: Step) -> None:
        tally.to_come -= 1
        for follower in tally.place.block.followers[step.name]:
            tally.missing[follower.name] -= 1
            if not tally.missing[follower.name]:
                del tally.missing[follower.name]
                self._push(Turn.START, tally.place.prefix + follower.name, follower)
        loop = tally.loop
        if tally.to_come or loop is None:
            return
        loop.open_runs -= 1
        del self._tallies[tally.place.prefix, id(tally.place.block)]
        self._queue_item(loop)
        self._close_if_done(loop)

    def _close_if_done(self, loop: Loop) -> None:
        if loop.is_done:
            self._push(Turn.CLOSE, loop.node.key, loop.node.step)


def _begun_runs(node: Node, known: StepState, state: SagaState) -> int:
    """The number of items that have begun. Items begin in the order of the list."""
    return next(
        (index for index in range(len(known.opened or ()), 0, -1) if is_touched(node, index - 1, state)), 0
    )


def _missing(step: Step, over: set[str]) -> int:
    """The number of steps that the step waits for."""
    return sum(other not in over for other in step.after)
