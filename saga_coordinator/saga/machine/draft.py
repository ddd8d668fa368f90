"""A draft of a decision: the entries that it records, the effects that it asks for, and the work that it may still do."""

from __future__ import annotations

from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.expressions.reference import Metered
from saga_coordinator.saga.machine.act_entries import STEP_ACTS
from saga_coordinator.saga.machine.agenda import Agenda
from saga_coordinator.saga.machine.answers import APPLIED, Answer
from saga_coordinator.saga.machine.effects import Invoke, LookForEvent, LookForRoom
from saga_coordinator.saga.machine.entries import Entry, SagaFailed, SagaRecalled, is_about_step
from saga_coordinator.saga.machine.place import Place, node_of, remaining_effects, scope
from saga_coordinator.saga.machine.state import SagaState, apply
from saga_coordinator.saga.machine.undoing import Undoing
from saga_coordinator.saga.words.errors import ExpressionError, Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.meter import ENTRY, Meter, TooMuchHere
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.saga.words.size import Measure, TooFar, TooLarge

_TURNS = (SagaFailed, SagaRecalled)
_WORK_PER_VALUE_MEASURED = 5
_VALUES_MEASURED_HERE_MAX = 10_000
"""The most items and fields that one decision measures on the event loop: about five milliseconds. It is a limit of its own,
because measuring comes before its cost is known.
"""
_WORK_PER_STEP_TURNED = 10
_WORK_PER_STEP_LISTED = 400


class Draft:
    """A decision that is being written. Each recorded entry changes the state at once, and the next step of the decision builds
    on it.
    """

    __slots__ = (
        "_agenda",
        "_measure",
        "answer",
        "definition",
        "entries",
        "invocations",
        "is_cut",
        "jitter",
        "lookups",
        "may_call_here",
        "meter",
        "now",
        "room_found_for",
        "rooms",
        "state",
    )

    def __init__(
        self,
        definition: Definition,
        state: SagaState,
        now: float,
        jitter: float,
        *,
        may_call: bool,
        here_max: int | None = None,
    ) -> None:
        self.definition = definition
        self.state = state
        self.now = now
        self.jitter = jitter
        self.may_call_here = may_call
        self.meter = Meter(here_max)
        self.is_cut = False
        """Tells whether there is more work than this decision may do."""
        self._agenda = _taken(definition, state)
        self._measure = Measure(definition.limits.payload_bytes)
        self._measure.walk_max = None if here_max is None else _VALUES_MEASURED_HERE_MAX
        self.entries: list[Entry] = []
        self.invocations: list[Invoke] = []
        self.lookups: list[LookForEvent] = []
        self.rooms: dict[str, LookForRoom] = {}
        self.room_found_for: str | None = None
        """The key of the instance whose held attempt may be made now."""
        self.answer: Answer = APPLIED

    @property
    def may_call(self) -> bool:
        """Tells whether anything may begin: this coordinator can make calls, and no person holds the saga."""
        return self.may_call_here and self.state.hold is None

    def refuse(self, reason: Reason, message: str) -> None:
        """Answers that the saga's state forbids what was asked."""
        self.answer = Refusal(reason, message)

    def record(self, entry: Entry) -> None:
        """Adds an entry and applies it to the state. Raises TooMuchHere."""
        before = self.state
        if type(entry) in _TURNS:
            self.meter.charge_aside(len(before.steps) * _WORK_PER_STEP_TURNED)
        self.meter.charge(ENTRY)
        self.state = apply(before.saga_id, before, entry)
        self.entries.append(entry)
        if self.room_found_for is not None and not self.state.step(self.room_found_for).is_held:
            self.room_found_for = None
        if self._agenda is not None:
            if self.state.status is not before.status or type(entry) in STEP_ACTS:
                self._agenda = None
            elif is_about_step(entry):
                self._agenda.follow(self.state, entry.step, before.step(entry.step))

    @property
    def agenda(self) -> Agenda:
        """The agenda of the present state. Raises TooMuchHere."""
        if self._agenda is None:
            self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
            self._agenda = Agenda(self.definition, self.state)
        return self._agenda

    def leave_agenda(self) -> None:
        """Leaves the agenda with the state, for the decision that goes on from there."""
        if self._agenda is not None:
            self.state.memo[:] = [self._agenda]

    def may_do_more(self) -> bool:
        """Tells whether this decision may do more work. If not, the decision ends here."""
        self.is_cut = self.is_cut or self.meter.is_spent
        return not self.is_cut

    def undoing(self) -> Undoing:
        """The way back of a parked saga. Raises TooMuchHere."""
        self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
        return Undoing(self.definition, self.state)

    def remaining_effects(self) -> tuple[str, ...]:
        """Keys of the instances whose effect stands or may stand. Raises TooMuchHere."""
        self.meter.charge_aside(len(self.state.steps) * _WORK_PER_STEP_LISTED)
        return remaining_effects(self.definition, self.state)

    def scope(self, place: Place) -> dict[str, Any]:
        """The variables that an expression at that place can refer to now."""
        return Metered(scope(self.definition, self.state, place), self.meter)

    def computed(self, payload: Any, what: str) -> Any:
        """Returns the value of an expression or a template unchanged, if it is no larger than a payload may be. `what` names
        the value in the error.

        Raises:
            ExpressionError: it is larger.
        """
        walked = self._measure.walked
        try:
            self._measure.check(payload)
        except TooLarge as error:
            raise ExpressionError(f"{what} {error}") from None
        except TooFar:
            raise TooMuchHere from None
        self.meter.charge((self._measure.walked - walked) * _WORK_PER_VALUE_MEASURED)
        return payload

    def look_for_room(self, key: str, due_at: float) -> None:
        """Asks to look, from `due_at` on, for room for the held attempt of that instance."""
        kind = self.state.step(key).operation
        operation = node_of(self.definition, self.state, key).step.operation(kind)
        self.rooms[key] = LookForRoom(
            self.state.saga_id, key, kind, operation.participant, operation.method, due_at
        )


def _taken(definition: Definition, state: SagaState) -> Agenda | None:
    """The agenda that was left with the state, if it is of the same definition."""
    try:
        agenda: Agenda = state.memo.pop()
    except IndexError:
        return None
    return agenda if agenda.definition is definition else None


def is_past_return(definition: Definition, state: SagaState) -> bool:
    """Tells whether the pivot was attempted, so that there may be no way back."""
    pivot = definition.pivot
    return pivot is not None and state.step(pivot.name).attempts(OperationKind.ACTION) > 0
