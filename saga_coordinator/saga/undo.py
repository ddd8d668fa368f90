"""The way back: compensations in the reverse of the order in which the steps ran, those independent of each other at once."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from saga_coordinator.saga.definition import ForEach, Step
from saga_coordinator.saga.draft import Draft
from saga_coordinator.saga.entries import SagaCompensated, SagaParked
from saga_coordinator.saga.forward import has_room, has_room_again
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.outcome import Cause, CauseCode, clip
from saga_coordinator.saga.place import Node, Place, nodes_at, outermost, places_in, remaining_effects
from saga_coordinator.saga.state import UNTOUCHED, StepState, needs_compensation
from saga_coordinator.saga.transitions import StepStatus

_ACTION, _COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
_LONG_AGO = float("-inf")


class Undoable(NamedTuple):
    """An instance whose turn it is. Until `held_until` an attempt that nobody saw end may still be in flight (P4)."""

    node: Node
    held_until: float


class _Subtree(NamedTuple):
    """What an instance and those inside it still hold up. `unseen_until`: one of their attempts may be in flight till then."""

    is_unfinished: bool
    unseen_until: float


def go_back(draft: Draft) -> None:
    """Starts the compensations whose turn it is; ends the saga when none is left."""
    while draft.may_call and _start_ready(draft):
        pass
    if any(state.is_open for state in draft.state.steps.values()) or can_go_back(draft):
        return
    if remaining := remaining_effects(draft.definition, draft.state):
        draft.record(SagaParked(_cause_of_parking(draft, remaining), remaining))
    else:
        draft.record(SagaCompensated())


def can_go_back(draft: Draft) -> bool:
    """Whether a compensation may be started, now or once what may still be in flight is over."""
    return any(_Walk(draft).undoable())


def _start_ready(draft: Draft) -> bool:
    """Starts what can start. True when something failed at once, so that what waits for it may be ready."""
    started: list[str] = []
    if any(state.retry_at is not None for state in draft.state.steps.values()):
        for node, state in draft.nodes():
            if _is_retry_due(draft, state) and has_room_again(draft):
                draft.attempt(node, _COMPENSATION)
                started.append(node.key)
    for node, held_until in _Walk(draft).undoable():
        if held_until <= draft.now and has_room(draft):
            draft.attempt(node, _COMPENSATION)
            started.append(node.key)
    return any(draft.state.step(key).status is StepStatus.FAILED for key in started)


def _is_retry_due(draft: Draft, state: StepState) -> bool:
    return state.retry_at is not None and state.retry_at <= draft.now


def _is_unfinished(step: Step, state: StepState) -> bool:
    """Whether those that the step depends on have to wait for it (P3, P4)."""
    if state.is_in_flight:
        return True
    if not needs_compensation(step, state):
        return False
    is_given_up = state.status is StepStatus.FAILED and state.operation is _COMPENSATION
    return not (is_given_up and step.is_undo_optional)


def _may_be_undone(step: Step, state: StepState) -> bool:
    return not state.is_in_flight and state.operation is _ACTION and needs_compensation(step, state)


def _unseen_until(state: StepState) -> float:
    """Until when an attempt of the action that nobody saw end may be in flight, if nobody told what became of it either."""
    if state.settles_at is None or state.is_output_known or state.is_refused:
        return _LONG_AGO
    return state.settles_at


class _Rank(IntEnum):
    """Which items of a loop are undone first. Of those under way, something is in flight, awaited or tried again."""

    UNDER_WAY = 1
    BEGUN = 2
    UNTOUCHED = 3


class _Walk:
    """One look at everything that may have to be undone. What an instance holds up is worked out once."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._known: dict[str, _Subtree] = {}

    def undoable(self) -> Iterator[Undoable]:
        """The instances whose compensation is wanted and on which nothing that is unfinished depends."""
        return self._undoable_at(outermost(self._draft.definition), _LONG_AGO)

    def _undoable_at(self, place: Place, held_until: float) -> Iterator[Undoable]:
        steps = self._draft.state.steps
        for step in place.block.steps:
            key = place.prefix + step.name
            state = steps.get(key)
            if state is None or not (step.blocks or _may_be_undone(step, state)):
                continue
            dependents = [
                self._subtree(place, self._draft.definition.step(name))
                for name in place.block.dependents[step.name]
                if place.prefix + name in steps
            ]
            if any(each.is_unfinished for each in dependents):
                continue
            held = max((held_until, *(each.unseen_until for each in dependents)))
            node = Node(key, step, place)
            if step.blocks:
                yield from self._undoable_inside(node, state, held)
            else:
                yield Undoable(node, held if state.settles_at is None else max(held, state.settles_at))

    def _undoable_inside(self, node: Node, state: StepState, held_until: float) -> Iterator[Undoable]:
        places = places_in(node, state)
        match node.step.action:
            case _ if node.step.is_in_turn:
                yield from self._undoable_in_turn(places, held_until)
            case ForEach(max_parallel=limit):
                yield from self._undoable_items(places, limit or len(places), held_until)
            case _:
                for place in places:
                    yield from self._undoable_at(place, held_until)

    def _undoable_in_turn(self, places: list[Place], held_until: float) -> Iterator[Undoable]:
        """What ran one after the other is undone one after the other, the newest first: each was built on the one before (P3)."""
        unfinished = [place for place in places if self._is_unfinished_at(place)]
        if any(self._rank(place) is _Rank.UNDER_WAY for place in unfinished[:-1]):
            return  # a coordinator of version 0.1.0 undid items first to last: what it has begun ends first
        for place in reversed(places):
            yield from self._undoable_at(place, held_until)
            inside = [self._subtree(place, step) for step in place.block.steps]
            if any(each.is_unfinished for each in inside):
                return
            held_until = max((held_until, *(each.unseen_until for each in inside)))

    def _undoable_items(self, places: list[Place], limit: int, held_until: float) -> Iterator[Undoable]:
        """What can be undone in at most `limit` items at once, the newest first.

        An item in which nothing more can be undone takes no place.
        """
        room = limit
        unfinished = [place for place in reversed(places) if self._is_unfinished_at(place)]
        for place in sorted(unfinished, key=self._rank):
            if self._rank(place) is not _Rank.UNDER_WAY and room <= 0:
                return
            found = list(self._undoable_at(place, held_until))
            room -= self._rank(place) is _Rank.UNDER_WAY or bool(found)
            yield from found

    def _subtree(self, place: Place, step: Step) -> _Subtree:
        key = place.prefix + step.name
        if (known := self._known.get(key)) is not None:
            return known
        state = self._draft.state.steps.get(key, UNTOUCHED)
        if step.blocks:
            inside = [
                self._subtree(inner, other)
                for inner in places_in(Node(key, step, place), state)
                for other in inner.block.steps
            ]
            found = _Subtree(
                any(each.is_unfinished for each in inside),
                max((each.unseen_until for each in inside), default=_LONG_AGO),
            )
        else:
            found = _Subtree(_is_unfinished(step, state), _unseen_until(state))
        self._known[key] = found
        return found

    def _is_unfinished_at(self, place: Place) -> bool:
        return any(self._subtree(place, step).is_unfinished for step in place.block.steps)

    def _rank(self, place: Place) -> _Rank:
        states = [self._draft.state.step(node.key) for node in nodes_at(place, self._draft.state)]
        if any(state.is_open for state in states):
            return _Rank.UNDER_WAY
        return _Rank.BEGUN if any(state.operation is _COMPENSATION for state in states) else _Rank.UNTOUCHED


def _cause_of_parking(draft: Draft, remaining: tuple[str, ...]) -> Cause:
    for key in remaining:
        state = draft.state.step(key)
        if state.operation is _COMPENSATION:
            assert state.cause is not None, f"the compensation of {key} has failed without a cause"
            message = clip(f"the compensation did not succeed: {state.cause.message}")
            return Cause(state.cause.code, message, key)
    return Cause(CauseCode.IRREVERSIBLE, "the saga failed after a step that cannot be undone", remaining[0])
