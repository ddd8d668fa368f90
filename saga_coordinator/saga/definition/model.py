"""The model of a parsed definition. A definition that was valid when it was registered cannot be invalid when it runs.

`parse_definition` takes the canonical JSON form of `saga.v1.Definition` (field names in snake or lower camel case) and either
returns a `Definition` or raises `InvalidDefinition` with every fault at once.

A step's action is a call to a participant, a wait, or a block of further steps. Step names are unique in the whole definition,
blocks included; a step that runs several times has several *instances*, each with its own key (`saga/machine/place.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from saga_coordinator.saga.expressions.expression import Expression, Template
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.words.outcome import OutcomeKind
from saga_coordinator.saga.words.retry import RetryPolicy

if TYPE_CHECKING:
    from saga_coordinator.saga.schema.input_schema import InputSchema

CHILD_PARTICIPANT = "@saga"
"""The participant of steps that run another saga; no directory can have an entry of that name."""


class OnFailure(StrEnum):
    """The consequence of a failed step for its saga: the saga is undone, waits for a person, or goes on without the step."""

    COMPENSATE = "compensate"
    PAUSE = "pause"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class StatusMethod:
    """The method that tells the outcome of a pending operation. If `input` is None, the operation's own input is sent."""

    method: str
    input: Template | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A call to a participant. If `input` is None, the default applies (`Operation.input` in the contract).

    `outcomes` gives the meaning of gRPC statuses, by name, where it differs from the table in `saga/words/outcome.py`.
    `poll_seconds` is the time after which a pending operation is polled first, if it is polled: with the method `status`, or
    with the same call if `status` is None. `heartbeat_seconds` is the longest silence of the participant while its outcome is
    pending; after that the attempt counts as UNKNOWN.
    """

    participant: str
    method: str
    input: Template | None
    timeout_seconds: float
    pending_timeout_seconds: float | None
    retry: RetryPolicy
    outcomes: Mapping[str, OutcomeKind] = field(default_factory=dict)
    poll_seconds: float | None = None
    status: StatusMethod | None = None
    heartbeat_seconds: float | None = None

    @property
    def is_child(self) -> bool:
        """Tells whether the operation runs or undoes another saga. Then `method` is NAME or NAME@VERSION."""
        return self.participant == CHILD_PARTICIPANT


@dataclass(frozen=True, slots=True)
class Delay:
    """Waits for a time span, in seconds, or until an instant that an expression computes."""

    seconds: float | None
    until: Expression | None


@dataclass(frozen=True, slots=True)
class AwaitEvent:
    """Waits for an event of that name. With a correlation, only events that carry the same correlation count.

    When `timeout_seconds` have passed, the step is refused. If it `goes_on`, it succeeds with null instead. A published event
    counts if it came after the saga's start, or at most `look_back_seconds` before the start.
    """

    event: str
    correlation: Template | None
    timeout_seconds: float | None
    goes_on: bool
    look_back_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Approval:
    """Waits for a person's yes or no. Without approvers, anybody may decide. `shows` is what they see. The timeout works as in
    `AwaitEvent`.
    """

    approvers: tuple[str, ...]
    shows: Template | None
    timeout_seconds: float | None
    goes_on: bool


@dataclass(frozen=True)
class Block:
    """Steps that belong together, in the order written. If `output` is None, the last step's output is the block's output."""

    steps: tuple[Step, ...]
    output: Template | None = None

    @cached_property
    def dependents(self) -> Mapping[str, frozenset[str]]:
        """Maps each step to the names of all steps that come after it, directly or through others. They are undone before
        it.
        """
        return {
            step.name: frozenset(
                other.name for other in self.steps if step.name in self.dependencies[other.name]
            )
            for step in self.steps
        }

    @cached_property
    def dependencies(self) -> Mapping[str, frozenset[str]]:
        """Maps each step to the names of all steps that end before it starts."""
        return dependencies({step.name: step.after for step in self.steps})

    @cached_property
    def undone_later(self) -> Mapping[str, tuple[str, ...]]:
        """Maps each step to the names of the steps that are undone after it."""
        return {
            step.name: tuple(
                other for other, waited_for in self.dependents.items() if step.name in waited_for
            )
            for step in self.steps
        }

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Maps each step to the number of steps that are written before it."""
        return {step.name: position for position, step in enumerate(self.steps)}

    @cached_property
    def followers(self) -> Mapping[str, tuple[Step, ...]]:
        """Maps each step to the steps that name it in their `after`."""
        return {
            step.name: tuple(other for other in self.steps if step.name in other.after) for step in self.steps
        }

    @cached_property
    def begins_with_calls(self) -> bool:
        """Tells whether every step with which the block can begin is a call."""
        return all(isinstance(step.action, Operation) for step in self.steps if not step.after)


@dataclass(frozen=True, slots=True)
class Case:
    """A branch of a switch. The branch without a condition comes last, and runs if no other branch does."""

    when: Expression | None
    block: Block


@dataclass(frozen=True, slots=True)
class Switch:
    """Runs the first branch whose condition holds. If no condition holds, the step is skipped."""

    cases: tuple[Case, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(case.block for case in self.cases)


@dataclass(frozen=True, slots=True)
class ForEach:
    """Runs the block once for each item, `max_parallel` at a time; 0 runs all at once. The output is the list of the blocks'
    outputs.

    In the block's expressions, the item has the name `name`.
    """

    items: Expression
    block: Block
    max_parallel: int
    name: str = "item"

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (self.block,)


@dataclass(frozen=True, slots=True)
class Repeat:
    """Runs the block again and again until the condition holds after a pass. The step fails if the condition does not hold
    after `max_passes`.
    """

    until: Expression
    block: Block
    max_passes: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (self.block,)


Wait = Delay | AwaitEvent | Approval
Blocks = Switch | ForEach | Repeat
Action = Operation | Wait | Blocks
_BLOCKS = (Switch, ForEach, Repeat)  # to ask for a union's members takes three times as long


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a definition. `after` holds its direct dependencies, even if the file left them to the written order.

    `deadline_seconds` bounds all attempts of the action together, from the first attempt. `is_undo_optional`: if the step's
    compensation has failed, the compensations of the steps before it start nevertheless. The effect that remains is listed at
    the end.
    """

    name: str
    after: tuple[str, ...]
    action: Action
    compensation: Operation | None = None
    is_pivot: bool = False
    is_read_only: bool = False
    is_irreversible: bool = False
    compensate_on_refusal: bool = False
    when: Expression | None = None
    deadline_seconds: float | None = None
    on_failure: OnFailure = OnFailure.COMPENSATE
    is_undo_optional: bool = False

    def operation(self, kind: OperationKind) -> Operation:
        """The step's action or compensation. The action must be a call, and the compensation must exist."""
        operation = self.action if kind is OperationKind.ACTION else self.compensation
        assert isinstance(operation, Operation), f"step {self.name} calls nobody as its {kind}"
        return operation

    @property
    def is_in_turn(self) -> bool:
        """Tells whether the step is a loop whose runs follow each other, so that each run may depend on the run before."""
        match self.action:
            case ForEach(max_parallel=limit):
                return limit == 1
            case _:
                return isinstance(self.action, Repeat)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of further steps that the step may run; none for a call or a wait."""
        return self.action.blocks if isinstance(self.action, _BLOCKS) else ()


class Whereabouts(NamedTuple):
    """The place of a step in its definition: its block; the steps around that block, the outermost first; and the positions of
    those steps and of the step itself.
    """

    block: Block
    holders: tuple[Step, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Definition:
    """A valid definition: `steps` in the order written. `max_parallel` 0 sets no limit."""

    name: str
    block: Block
    description: str = ""
    deadline_seconds: float | None = None
    max_parallel: int = 0
    labels: Mapping[str, Template] = field(default_factory=dict)
    input_schema: InputSchema | None = None
    limits: Limits = field(default=DEFAULT_LIMITS, repr=False, compare=False)
    _by_name: Mapping[str, Step] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {step.name: step for step in all_steps(self.block)})

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that lie in no block of another step."""
        return self.block.steps

    def step(self, key: str) -> Step:
        """The step that has this name, or an instance with this key. Raises KeyError."""
        return self._by_name[step_name(key)]

    def has_step(self, key: str) -> bool:
        return step_name(key) in self._by_name

    @cached_property
    def is_flat(self) -> bool:
        """Tells whether no step runs a block. Then every step has one instance, whose key is the step's name."""
        return len(self._by_name) == len(self.steps)

    @cached_property
    def pivot(self) -> Step | None:
        return next((step for step in self.steps if step.is_pivot), None)

    @cached_property
    def participants(self) -> frozenset[str]:
        """Names of all participants that any operation calls."""
        operations = [
            operation for step in self._by_name.values() for operation in (step.action, step.compensation)
        ]
        return frozenset(
            operation.participant
            for operation in operations
            if isinstance(operation, Operation) and not operation.is_child
        )

    @cached_property
    def loops_around(self) -> Mapping[str, int]:
        """Maps each step to the number of loops that it lies in. The keys of its instances have as many indexes."""
        return dict(_loops_around(self.block, 0))

    @cached_property
    def whereabouts(self) -> Mapping[str, Whereabouts]:
        """Maps each step to its place."""
        return dict(_whereabouts(self.block, (), ()))

    def is_after_pivot(self, key: str) -> bool:
        """Tells whether the step only runs when the saga can no longer go back."""
        if self.pivot is None:
            return False
        return self.pivot.name in self.block.dependencies[self._outermost[step_name(key)]]

    @cached_property
    def _outermost(self) -> Mapping[str, str]:
        """Maps each step to the outermost step in whose blocks it lies, or to itself."""
        return {inner.name: step.name for step in self.steps for inner in (step, *_inner_steps(step))}


def all_steps(block: Block) -> Iterator[Step]:
    """Yields every step of the block and of the blocks in it, in the order written."""
    for step in block.steps:
        yield step
        for inner in step.blocks:
            yield from all_steps(inner)


def _inner_steps(step: Step) -> Iterator[Step]:
    for block in step.blocks:
        yield from all_steps(block)


@dataclass(frozen=True)
class RunnableDefinition:
    """A version of a definition, as the sagas that pin it follow it."""

    version: int
    definition: Definition


def _loops_around(block: Block, loops: int) -> Iterator[tuple[str, int]]:
    for step in block.steps:
        yield step.name, loops
        for inner in step.blocks:
            yield from _loops_around(inner, loops + (not isinstance(step.action, Switch)))


def _whereabouts(
    block: Block, holders: tuple[Step, ...], above: tuple[int, ...]
) -> Iterator[tuple[str, Whereabouts]]:
    for index, step in enumerate(block.steps):
        positions = (*above, index)
        yield step.name, Whereabouts(block, holders, positions)
        for inner in step.blocks:
            yield from _whereabouts(inner, (*holders, step), positions)


def step_name(key: str) -> str:
    """The name of the step whose instance has that key: `transfer` for `pay[3].transfer`."""
    return key.rpartition(".")[2]


def dependencies(after: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    """The transitive closure of an acyclic `after`."""
    closed: dict[str, frozenset[str]] = {}
    unfinished = list(after)
    while unfinished:
        name = unfinished[-1]
        if name in closed:  # reached by another path meanwhile
            unfinished.pop()
            continue
        missing = [other for other in after[name] if other not in closed]
        if missing:
            unfinished.extend(missing)
            continue
        closed[name] = frozenset(after[name]).union(*(closed[other] for other in after[name]))
        unfinished.pop()
    return closed
