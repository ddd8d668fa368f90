"""The places where steps run. A step in a loop has one instance for each item or pass, and each instance has its own key and
scope.

The key of an instance lists the loops around it with their indexes, and then the step's name: `charge`, `pay[3].transfer`,
`outer[0].inner[2].check`. A switch adds nothing to the key, since only one of its branches ever runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from saga_coordinator.saga.definition.model import Block, Definition, ForEach, Repeat, Step, Switch, step_name
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState, has_standing_effect
from saga_coordinator.saga.machine.transitions import StepStatus
from saga_coordinator.saga.words.identity import OperationKind

_NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})


class Place(NamedTuple):
    """One run of a block. `prefix` begins the keys of its instances; `variables` are in scope for its expressions."""

    block: Block
    prefix: str = ""
    variables: Mapping[str, Any] = _NO_VARIABLES


class Node(NamedTuple):
    """An instance of a step."""

    key: str
    step: Step
    place: Place


def outermost(definition: Definition) -> Place:
    return Place(definition.block)


def nodes(definition: Definition, state: SagaState) -> Iterator[Node]:
    """Yields every instance that exists so far, in the definition's order. The instances of a block exist once the block is
    opened.
    """
    return nodes_at(outermost(definition), state)


def nodes_at(place: Place, state: SagaState) -> Iterator[Node]:
    """The instances in one run of a block, and in the blocks that they run."""
    for step in place.block.steps:
        node = Node(place.prefix + step.name, step, place)
        yield node
        if step.blocks:
            for inner in places_in(node, state.step(node.key)):
                yield from nodes_at(inner, state)


def places_in(node: Node, state: StepState) -> list[Place]:
    """The runs of blocks that a step has opened: its items, its passes from the first, or its branch."""
    return [place_at(node, state, index) for index in range(len(state.opened or ()))]


def place_at(node: Node, state: StepState, index: int) -> Place:
    """The run of that index, which the step has opened."""
    assert state.opened is not None, f"step {node.key} has opened no block"
    key, variables, opened = node.key, node.place.variables, state.opened[index]
    match node.step.action:
        case Switch(cases):
            return Place(cases[opened].block, node.place.prefix, variables)
        case ForEach(block=block, name=name):
            return Place(block, f"{key}[{index}].", {**variables, name: opened, "index": index})
        case Repeat(block=block):
            return Place(block, f"{key}[{index}].", {**variables, "number": index + 1, "previous": opened})
        case _:
            raise AssertionError(f"step {node.key} runs no block")


def is_touched(node: Node, index: int, state: SagaState) -> bool:
    """Tells whether anything has happened in the run of that index. A run begins with a step that comes after no other step, so
    only those are looked at.
    """
    if isinstance(node.step.action, Switch):
        return True
    prefix = f"{node.key}[{index}]."
    return any(prefix + step.name in state.steps for step in node.step.blocks[0].steps if not step.after)


def scope(definition: Definition, state: SagaState, place: Place) -> dict[str, Any]:
    """The variables that expressions at that place can refer to; docs/definitions.md has the table."""
    return {
        "input": state.input,
        "steps": _Steps(definition, state, place.prefix),
        "saga": {"id": state.saga_id, "labels": state.labels},
        **place.variables,
    }


class _Steps(Mapping[str, Any]):
    """The value of `steps` in an expression. A step in the same loop stands for its instance of the same item or pass."""

    __slots__ = ("_definition", "_loops", "_state")

    def __init__(self, definition: Definition, state: SagaState, prefix: str) -> None:
        self._definition = definition
        self._state = state
        self._loops = prefix.split(".")[:-1]

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        loops = self._loops[: self._definition.loops_around[name]]
        step = self._state.step(".".join((*loops, name)))
        if step.status is not StepStatus.FAILED or step.operation is not OperationKind.ACTION:
            return {"failure": None, "output": step.output, "status": step.status.value}
        # An output that was reported late is not shown: another attempt with another input would have the same key (P5).
        cause = step.cause and {"code": str(step.cause.code), "message": step.cause.message}
        return {"failure": cause, "output": None, "status": step.status.value}

    def __iter__(self) -> Iterator[str]:
        return iter(self._definition.loops_around)

    def __len__(self) -> int:
        return len(self._definition.loops_around)


def exists(definition: Definition, state: SagaState, key: str) -> bool:
    """Tells whether the saga has an instance of that key, in a run of its block that has begun. The key's step must be in the
    definition.
    """
    step, place = definition.step(key), outermost(definition)
    try:
        indexes = iter(_indexes(key))
    except ValueError:
        return False
    for holder in definition.whereabouts[step.name].holders:
        node = Node(place.prefix + holder.name, holder, place)
        known = state.step(node.key)
        index = 0 if isinstance(holder.action, Switch) else next(indexes, -1)
        if not 0 <= index < len(known.opened or ()) or not is_touched(node, index, state):
            return False
        place = place_at(node, known, index)
    return place.prefix + step.name == key and any(each is step for each in place.block.steps)


def node_of(definition: Definition, state: SagaState, key: str) -> Node:
    """The instance with that key. It must exist."""
    step, place = definition.step(key), outermost(definition)
    if definition.is_flat:
        return Node(key, step, place)
    indexes = iter(_indexes(key))
    for holder in definition.whereabouts[step.name].holders:
        node = Node(place.prefix + holder.name, holder, place)
        index = 0 if isinstance(holder.action, Switch) else next(indexes)
        place = place_at(node, state.step(node.key), index)
    return Node(key, step, place)


def _indexes(key: str) -> list[int]:
    """The index in each loop around the instance of that key, the outermost first."""
    return [int(loop[loop.rindex("[") + 1 : -1]) for loop in key.split(".")[:-1]]


Position = tuple[int, ...]


def position_of(definition: Definition, key: str, *, newest_first: bool = False) -> Position:
    """The position of the instance in the order written, and among the items or passes of the loops around it."""
    found = definition.whereabouts[step_name(key)]
    if not found.holders:
        return found.positions
    indexes = iter(_indexes(key))
    position: list[int] = []
    for holder, index in zip(found.holders, found.positions, strict=False):
        position.append(index)
        if not isinstance(holder.action, Switch):
            turn = next(indexes)
            position.append(-turn if newest_first else turn)
    return (*position, found.positions[-1])


def remaining_effects(definition: Definition, state: SagaState) -> tuple[str, ...]:
    """Keys of the instances whose effect stands or may stand, in the definition's order."""
    return tuple(
        key for key, step, _ in nodes(definition, state) if has_standing_effect(step, state.step(key))
    )
