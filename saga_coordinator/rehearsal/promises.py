"""Judges by the calls that were made whether a rehearsed saga kept the promises of docs/concepts.md.

It looks at the calls, at the outcomes that calls and reports told, and at the definition. It never looks at how the core
decides, so a defect of the core shows. P2: all or compensated, and what remains is listed. P3: reverse order. P4: never both at
once. P5: one key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from saga_coordinator.rehearsal.rehearse import Call, Rehearsal, Report, heard
from saga_coordinator.saga.definition.model import Block, Definition, OnFailure, Operation, Step, Switch
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Outcome, Pending, Refused, Succeeded, Unknown


class Breach(NamedTuple):
    """A promise that was not kept, and how."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


def breaches(rehearsal: Rehearsal) -> list[Breach]:
    """Every breach in what the rehearsal has shown so far. Breaches at the saga's end are judged only once the saga is
    settled.
    """
    judge = _Judge(rehearsal)
    found = [*judge.orders(), *judge.keys()]
    if rehearsal.state.status in SETTLED:
        found += judge.ends(rehearsal.state.status, rehearsal.state.remaining)
    return list(dict.fromkeys(found))


@dataclass
class _Instance:
    """The calls of one instance of a step, and the outcomes of its two operations with their times."""

    key: str
    step: Step
    actions: list[Call] = field(default_factory=list)
    undos: list[Call] = field(default_factory=list)
    told: list[tuple[float, Outcome | None]] = field(default_factory=list)
    undos_told: list[tuple[float, Outcome | None]] = field(default_factory=list)

    def may_have_happened(self, at: float) -> bool:
        """Tells whether the action took effect, or may have, as far as anybody could know at that instant."""
        is_in_doubt = is_pending = False
        for when, outcome in self.told:
            if when > at:
                break
            match outcome:
                case Succeeded():
                    return True
                case Unknown() | None:
                    is_in_doubt = True
                case Pending():
                    is_pending = True
                case Refused():
                    is_pending = False
                case _:
                    pass
        return is_in_doubt or is_pending

    @property
    def is_certain(self) -> bool:
        return any(isinstance(outcome, Succeeded) for _, outcome in self.told)

    @property
    def is_refused(self) -> bool:
        return any(isinstance(outcome, Refused) for _, outcome in self.told)

    def is_decided(self, at: float) -> bool:
        return any(when <= at and isinstance(outcome, Succeeded | Refused) for when, outcome in self.told)

    def undone_at(self) -> float | None:
        """The instant at which the action was known to be undone, or to need no undoing; None if it never was."""
        for when, outcome in self.undos_told:
            match outcome:
                case Succeeded():
                    return when
                case Refused(cause) if cause.code == "NOT_FOUND" and not self.is_certain:
                    return when
                case _:
                    pass
        return None

    def stands(self) -> bool:
        return (
            not self.step.is_read_only and self.may_have_happened(float("inf")) and self.undone_at() is None
        )


class _Judge:
    def __init__(self, rehearsal: Rehearsal) -> None:
        self._definition = rehearsal.definition
        self._calls = rehearsal.calls
        self._ways = _Ways(rehearsal.definition)
        self._instances: dict[str, _Instance] = {}
        for call in rehearsal.calls:
            instance = self._instance(call.step)
            told = heard(self._definition, call)
            if call.is_action:
                # A poll only asks. It cannot cause an effect that the first call did not have.
                if not call.invoke.is_poll:
                    instance.actions.append(call)
                instance.told.append((call.ended_at, told))
            else:
                instance.undos.append(call)
                instance.undos_told.append((call.ended_at, told))
        for report in rehearsal.reports:
            self._report(report)
        for instance in self._instances.values():
            instance.told.sort(key=lambda each: each[0])
            instance.undos_told.sort(key=lambda each: each[0])

    def _instance(self, key: str) -> _Instance:
        if key not in self._instances:
            self._instances[key] = _Instance(key, self._definition.step(key))
        return self._instances[key]

    def _report(self, report: Report) -> None:
        instance = self._instance(report.step)
        is_action = report.operation is OperationKind.ACTION
        (instance.told if is_action else instance.undos_told).append((report.at, report.outcome))

    # While it runs.

    def orders(self) -> Iterator[Breach]:
        """The breaches of P2 by single steps, of P3 and of P4."""
        undone = [instance for instance in self._instances.values() if instance.undos]
        for instance in undone:
            started_at = instance.undos[0].started_at
            wanted = instance.may_have_happened(started_at)
            if not wanted and instance.key not in self._unsure():
                yield Breach("P2", f"`{instance.key}` was compensated although it had no effect to undo")
            for call in instance.actions:
                if call.ended_at > started_at:
                    yield Breach(
                        "P4",
                        f"`{instance.key}` was compensated while attempt {call.invoke.attempt} could be in flight",
                    )
            for later in self._dependents(instance):
                yield from self._order(instance, later, started_at)

    def _dependents(self, instance: _Instance) -> list[_Instance]:
        return [
            other
            for other in self._instances.values()
            if other is not instance and self._ways.depends(other.key, instance.key)
        ]

    def _order(self, earlier: _Instance, later: _Instance, started_at: float) -> Iterator[Breach]:
        if any(call.ended_at > started_at for call in later.actions) and not later.is_decided(started_at):
            yield Breach(
                "P4",
                f"`{earlier.key}` was compensated while `{later.key}`, which depends on it, could be in flight",
            )
        if later.step.compensation is None or not later.may_have_happened(started_at):
            return
        undone_at = later.undone_at()
        is_given_up = later.step.is_undo_optional and any(call.ended_at <= started_at for call in later.undos)
        if (undone_at is None or undone_at > started_at) and not is_given_up:
            yield Breach(
                "P3", f"`{earlier.key}` was compensated before `{later.key}`, which depends on it, was undone"
            )

    def keys(self) -> Iterator[Breach]:
        """P5."""
        by_operation: dict[tuple[str, OperationKind], str] = {}
        by_key: dict[str, tuple[str, OperationKind]] = {}
        for call in self._calls:
            operation, key = (call.step, call.invoke.operation), call.invoke.idempotency_key
            if by_operation.setdefault(operation, key) != key:
                yield Breach("P5", f"attempts of `{call.name}` carried different keys")
            if by_key.setdefault(key, operation) != operation:
                yield Breach("P5", f"`{call.name}` and another operation carried the same key")

    # At the end.

    def ends(self, status: SagaStatus, remaining: Sequence[str]) -> Iterator[Breach]:
        """P2."""
        standing = {key for key, instance in self._instances.items() if instance.stands()}
        match status:
            case SagaStatus.COMPLETED:
                yield from self._complete()
            case SagaStatus.COMPENSATED:
                for key in sorted(standing):
                    yield Breach("P2", f"the saga is COMPENSATED, but the effect of `{key}` stands")
            case _:
                for key in sorted(standing - set(remaining)):
                    yield Breach("P2", f"the effect of `{key}` stands and is not listed as remaining")
                for key in sorted(set(remaining) - standing - self._unsure()):
                    yield Breach("P2", f"`{key}` is listed as remaining, but no effect of it stands")

    def _unsure(self) -> set[str]:
        """Instances that may be undone or listed, although no effect of theirs is known to stand."""
        return {
            key
            for key, instance in self._instances.items()
            if (instance.step.compensate_on_refusal and instance.is_refused)
            or any(isinstance(outcome, Pending) for _, outcome in instance.told)
        }

    def _complete(self) -> Iterator[Breach]:
        for instance in self._instances.values():
            if instance.undos:
                yield Breach("P2", f"the saga is COMPLETED, but `{instance.key}` was compensated")
            if not instance.is_certain and instance.step.on_failure is not OnFailure.CONTINUE:
                yield Breach("P2", f"the saga is COMPLETED, but `{instance.key}` did not succeed")
        for step in self._definition.steps:
            if isinstance(step.action, Operation) and step.when is None and step.name not in self._instances:
                yield Breach("P2", f"the saga is COMPLETED, but `{step.name}` was never called")


class _Turn(NamedTuple):
    """A level of an instance's place: the step there, the step's block, and the index of the item or pass if the step is a
    loop.
    """

    step: Step
    block: Block
    turn: int | None


class _Ways:
    """The places of the instances of a definition's steps, which tell which instance waits for which."""

    def __init__(self, definition: Definition) -> None:
        self._chains = dict(_chains(definition.block, ()))
        self._known: dict[str, list[_Turn]] = {}

    def depends(self, later: str, earlier: str) -> bool:
        """Tells whether the instance of the key `later` only runs once that of the key `earlier` is over."""
        for one, other in zip(self._way(later), self._way(earlier), strict=False):
            if one.step is not other.step:
                return other.step.name in one.block.dependencies[one.step.name]
            if one.turn != other.turn:
                return one.step.is_in_turn and (one.turn or 0) > (other.turn or 0)
        return False

    def _way(self, key: str) -> list[_Turn]:
        if key not in self._known:
            *loops, name = key.split(".")
            indexes = iter([int(loop.partition("[")[2][:-1]) for loop in loops])
            self._known[key] = [
                _Turn(step, block, next(indexes, None) if _is_loop(step) else None)
                for step, block in self._chains[name]
            ]
        return self._known[key]


def _is_loop(step: Step) -> bool:
    return bool(step.blocks) and not isinstance(step.action, Switch)


_Chain = tuple[tuple[Step, Block], ...]


def _chains(block: Block, above: _Chain) -> Iterator[tuple[str, _Chain]]:
    """Maps the name of every step to the steps from the outermost down to it, each with its block."""
    for step in block.steps:
        chain = (*above, (step, block))
        yield step.name, chain
        for inner in step.blocks:
            yield from _chains(inner, chain)
