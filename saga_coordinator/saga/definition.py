"""A definition, parsed: what was valid when it was registered cannot be invalid when it runs.

`parse_definition` takes the canonical JSON form of `saga.v1.Definition` (field names in snake or lower camel case) and either
returns a `Definition` or raises `InvalidDefinition` with every fault at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from saga_coordinator.saga.expression import Template
from saga_coordinator.saga.identity import OperationKind
from saga_coordinator.saga.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Operation:
    """One call to a participant. `input` is None where the default applies (`Operation.input` in the contract)."""

    participant: str
    method: str
    input: Template | None
    timeout_seconds: float
    pending_timeout_seconds: float
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Step:
    """A named node. `after` holds the direct dependencies, also where the file left them to the written order."""

    name: str
    after: tuple[str, ...]
    action: Operation
    compensation: Operation | None = None
    is_pivot: bool = False
    is_read_only: bool = False
    is_irreversible: bool = False
    compensate_on_refusal: bool = False

    def operation(self, kind: OperationKind) -> Operation:
        """The action, or the compensation, which must exist."""
        if kind is OperationKind.ACTION:
            return self.action
        assert self.compensation is not None, f"step {self.name} has no compensation"
        return self.compensation


@dataclass(frozen=True)
class Definition:
    """A valid definition: `steps` in the order written."""

    name: str
    steps: tuple[Step, ...]
    description: str = ""
    deadline_seconds: float | None = None
    _by_name: Mapping[str, Step] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {step.name: step for step in self.steps})

    def step(self, name: str) -> Step:
        """The step of that name. Raises KeyError."""
        return self._by_name[name]

    def has_step(self, name: str) -> bool:
        return name in self._by_name

    @cached_property
    def pivot(self) -> Step | None:
        return next((step for step in self.steps if step.is_pivot), None)

    @cached_property
    def participants(self) -> frozenset[str]:
        """Names of all participants that any operation calls."""
        operations = [operation for step in self.steps for operation in (step.action, step.compensation)]
        return frozenset(operation.participant for operation in operations if operation)

    @cached_property
    def dependents(self) -> Mapping[str, frozenset[str]]:
        """For each step, the names of all steps that come after it, directly or through others: those undone before it."""
        return {
            step.name: frozenset(
                other.name for other in self.steps if step.name in self._dependencies[other.name]
            )
            for step in self.steps
        }

    @cached_property
    def _dependencies(self) -> Mapping[str, frozenset[str]]:
        return dependencies({step.name: step.after for step in self.steps})

    def is_after_pivot(self, name: str) -> bool:
        """Whether the step runs only once the saga can no longer go back."""
        return self.pivot is not None and self.pivot.name in self._dependencies[name]


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
