"""Participants as plain functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from saga_coordinator.exact import NotKept, number_of
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind


class NoFake(AssertionError):
    """A call was made for which there is no fake."""


@dataclass(frozen=True, slots=True)
class Call:
    """An attempt as a participant sees it.

    `step` is the key of the step's instance (`pay[1].transfer`). `key` is the idempotency key, the same for every attempt. `at`
    counts seconds from the saga's start. In a compensation, `failure` says why the saga failed: code, message and step.
    """

    step: str
    operation: str
    participant: str
    method: str
    input: Any
    key: str
    attempt: int
    at: float
    failure: Mapping[str, str] | None = None
    is_poll: bool = False

    @property
    def is_compensation(self) -> bool:
        return self.operation == OperationKind.COMPENSATION

    @property
    def name(self) -> str:
        """`charge`, or `undo charge`."""
        return f"undo {self.step}" if self.is_compensation else self.step

    @classmethod
    def of(cls, invoke: Invoke, at: float) -> Call:
        failure = invoke.failure
        return cls(
            invoke.step,
            str(invoke.operation),
            invoke.participant,
            invoke.method,
            as_json(invoke.input, f"the input of `{invoke.step}`"),
            invoke.idempotency_key,
            invoke.attempt,
            at,
            {"code": str(failure.code), "message": failure.message, "step": failure.step}
            if failure
            else None,
            invoke.is_poll,
        )


Fake = Callable[[Call], Any]
"""A fake: it gets the call and returns the output, or raises one of the classes in `faults`."""
_F = TypeVar("_F", bound=Fake)


class Participants:
    """Fakes by `PARTICIPANT.METHOD`. For a full gRPC method, the part after the slash is enough.

    Fakes that are given as a mapping perform actions and compensations alike. `otherwise`, if given, performs all operations
    that have no fake.
    """

    def __init__(self, fakes: Mapping[str, Fake] | None = None, *, otherwise: Fake | None = None) -> None:
        self._fakes: dict[tuple[OperationKind | None, str], Fake] = {
            (None, name): fake for name, fake in (fakes or {}).items()
        }
        self._otherwise = otherwise

    def action(self, name: str) -> Callable[[_F], _F]:
        """Registers the function below as the fake for that action."""
        return self._registering(OperationKind.ACTION, name)

    def compensation(self, name: str) -> Callable[[_F], _F]:
        """Registers the function below as the fake for that compensation."""
        return self._registering(OperationKind.COMPENSATION, name)

    def saga(self, definition: str) -> Callable[[_F], _F]:
        """Registers the function below as the child saga of that definition: it returns its output, or raises `Refused`.

        Undoing the child succeeds unless there is a `compensation` of the same name.
        """
        return self._registering(OperationKind.ACTION, f"{CHILD_PARTICIPANT}.{definition}")

    def _registering(self, kind: OperationKind, name: str) -> Callable[[_F], _F]:
        def register(fake: _F) -> _F:
            self._fakes[kind, name] = fake
            return fake

        return register

    def perform(self, call: Call) -> Any:
        """The output of the call. Raises NoFake, and whatever the fake raises."""
        kind = OperationKind(call.operation)
        for name in _names(call):
            for key in ((kind, name), (None, name)):
                if key in self._fakes:
                    return as_json(self._fakes[key](call), f"what the fake of `{name}` returned")
        if self._otherwise is not None:
            return as_json(self._otherwise(call), f"what was returned for `{call.name}`")
        if call.participant == CHILD_PARTICIPANT and call.is_compensation:
            return None
        raise NoFake(_missing(call))


def _names(call: Call) -> list[str]:
    if call.participant == CHILD_PARTICIPANT:
        definition = call.method.partition("@")[0]
        return [f"{CHILD_PARTICIPANT}.{call.method}", f"{CHILD_PARTICIPANT}.{definition}", definition]
    short = call.method.rpartition("/")[2]
    return list(dict.fromkeys((f"{call.participant}.{call.method}", f"{call.participant}.{short}")))


def _missing(call: Call) -> str:
    if call.participant == CHILD_PARTICIPANT:
        return (
            f"`{call.name}` runs a saga that has no fake; write one for @participants.saga({call.method!r})"
        )
    decorator = "compensation" if call.is_compensation else "action"
    return f"`{call.name}` has no fake; write one for @participants.{decorator}({_names(call)[-1]!r})"


def as_json(value: Any, what: str) -> Any:
    """A copy of the value in the form in which it would travel. Raises TypeError if it is not JSON; the message names `what`."""
    try:
        written = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} is not JSON: {error}") from None
    try:
        return json.loads(written, parse_int=number_of)
    except NotKept as error:
        raise TypeError(f"{what} has a number that would change on its way: {error}") from None
