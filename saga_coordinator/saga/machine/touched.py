"""What a saga has touched, as a tree: the root is the run of the definition's block, a run has parts, and a part that runs blocks
has a loop of further runs.

A `Part` stands for one touched instance. It is unfinished while it has to be undone or is in flight. An attempt is in flight
unseen if the coordinator no longer waits for its end, although the call may still have an effect (P4). Each run and each loop
lists where below it such attempts are, so that `Part.held_until` looks only at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from saga_coordinator.saga.definition.model import Definition, ForEach, Step
from saga_coordinator.saga.machine.place import Node, Place, is_touched, outermost, place_at
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState, needs_compensation
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.identity import OperationKind

LONG_AGO = float("-inf")


def is_unfinished(step: Step, state: StepState) -> bool:
    """Tells whether the steps that this step depends on have to wait for it (P3, P4)."""
    if state.is_in_flight:
        return True
    if not needs_compensation(step, state):
        return False
    is_given_up = state.status is StepStatus.FAILED and state.operation is OperationKind.COMPENSATION
    return not (is_given_up and (step.is_undo_optional or state.is_let_stand))


def may_be_undone(step: Step, state: StepState) -> bool:
    """Tells whether the step's compensation is needed and has not begun."""
    is_begun = state.operation is not OperationKind.ACTION
    return not state.is_in_flight and not is_begun and needs_compensation(step, state)


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

    def learn(self, known: StepState) -> bool:
        """Takes over what is known of the instance. Returns True if attempts that were in flight unseen have ended by it."""
        step = self.node.step
        self.is_open = known.is_open
        if self.loop is not None:
            self.is_unfinished = self.loop.unfinished > 0
            is_unseen = bool(self.loop.unseen)
        else:
            self.is_unfinished = is_unfinished(step, known)
            self.is_wanted = may_be_undone(step, known)
            self.settles_at = LONG_AGO if known.settles_at is None else known.settles_at
            self.unseen_until = unseen_until(known)
            is_unseen = self.unseen_until > LONG_AGO
        if is_unseen is (step.name in self.run.unseen):
            return False
        self._note_unseen(is_unseen=is_unseen)
        return not is_unseen

    def _note_unseen(self, *, is_unseen: bool) -> None:
        """Notes in the runs and loops around the part whether it has an attempt in flight unseen. Those that have another one
        keep their note.
        """
        part = self
        while True:
            run, name = part.run, part.node.step.name
            (run.unseen.add if is_unseen else run.unseen.discard)(name)
            loop = run.loop
            if loop is None or bool(run.unseen) is not is_unseen:
                return
            (loop.unseen.add if is_unseen else loop.unseen.discard)(run.index)
            if bool(loop.unseen) is not is_unseen:
                return
            part = loop.part

    @property
    def held_until(self) -> float:
        """The instant before which the part may not be undone, because an attempt that has to end first may still be in flight
        (P4).
        """
        known = [self.settles_at]
        inner: Part | None = self
        while inner is not None:
            run = inner.run
            if run.unseen:
                for name in run.unseen & run.place.block.dependents[inner.node.step.name]:
                    known += run.parts[name].unseen_instants()
            loop = run.loop
            if loop is None:
                break
            if loop.part.node.step.is_in_turn:
                for index in loop.unseen:
                    if index > run.index:
                        known += loop.runs[index].unseen_instants()
            inner = loop.part
        return max(known)

    def unseen_instants(self) -> Iterator[float]:
        """Yields the instants until which attempts may be in flight unseen, in this part and below it."""
        if self.loop is None:
            yield self.unseen_until
        else:
            for index in self.loop.unseen:
                yield from self.loop.runs[index].unseen_instants()


@dataclass(slots=True, eq=False)
class Run:
    """One run of a block. `unfinished`, `open` and `offered` count its parts. `open` and `offered` also count the parts in the
    blocks below.

    `unseen` names the steps with an attempt that may be in flight unseen, here or below.
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

    def unseen_instants(self) -> Iterator[float]:
        """Yields the instants until which attempts may be in flight unseen in this run."""
        for name in self.unseen:
            yield from self.parts[name].unseen_instants()


@dataclass(slots=True, eq=False)
class Loop:
    """The runs of a part that runs blocks.

    `waiting` lists the indexes of the unfinished runs that may not be undone yet; the last of them comes next. In a loop whose
    runs follow each other, `current` is the run that has to be undone before the next one may begin. `busy` holds the runs that
    take a place. `limit` is the number of places; 0 sets no limit. `unseen` holds the runs with attempts in flight unseen.
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


class Touched:
    """The touched instances of one saga. `root` is the run of the definition's outermost block."""

    def __init__(self, definition: Definition, state: SagaState) -> None:
        self._definition = definition
        self._runs: dict[tuple[str, int], Run] = {}
        self.root = self._run(state, outermost(definition), None, 0)

    def __del__(self) -> None:
        """Unties what refers to each other, so that it is freed at once: the collector may never look at it (`collector.py`)."""
        for run in self._runs.values():
            for part in run.parts.values():
                part.loop = None
            run.parts.clear()
            if run.loop is not None:
                run.loop.runs.clear()

    def part(self, key: str) -> Part:
        """The part of that instance, which must be touched."""
        name = self._definition.step(key).name
        prefix = key[: len(key) - len(name)]
        return self._runs[prefix, id(self._definition.whereabouts[name].block)].parts[name]

    def _run(self, state: SagaState, place: Place, loop: Loop | None, index: int) -> Run:
        run = Run(place, loop, index)
        self._runs[place.prefix, id(place.block)] = run
        for step in place.block.steps:
            key = place.prefix + step.name
            known = state.steps.get(key)
            if known is not None:
                part = run.parts[step.name] = Part(Node(key, step, place), run)
                if known.opened is not None:
                    self._add_loop(state, part, known)
                part.learn(known)
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

    def _add_loop(self, state: SagaState, part: Part, known: StepState) -> None:
        step = part.node.step
        loop = part.loop = Loop(part)
        if step.is_in_turn:
            loop.limit = 1
        elif isinstance(step.action, ForEach):
            loop.limit = step.action.max_parallel
        for index in range(len(known.opened or ())):
            if not is_touched(part.node, index, state):
                continue
            run = self._run(state, place_at(part.node, known, index), loop, index)
            loop.runs[index] = run
            loop.unfinished += run.unfinished > 0
            if run.open:
                loop.busy.add(index)
