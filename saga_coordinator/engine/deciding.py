"""Makes decisions where they delay nobody: mostly on the event loop, and in a thread if they take more than a few milliseconds.

A decision is pure, so the place where it is made makes no difference to it. The loop turns while a thread decides, since the
interpreter passes from thread to thread every few milliseconds. An input with a large payload is decided in a thread at once,
because the decision first looks through the whole payload.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.inputs import (
    AttemptEnded,
    EventArrived,
    Input,
    OutcomeReported,
    ResolveAsked,
    SkipAsked,
    StartRequested,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.words.meter import TooMuchHere
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.turns import Threads
from saga_coordinator.wire.conversion import is_large

HERE_MAX = 200_000
"""Units of `meter` that the loop spends on one decision: about six milliseconds. It is less than `DECISION_MAX`, so a decision
that ends by its budget is made in a thread.
"""

_threads = Threads("deciding", 2)


async def decided(
    definition: Definition,
    state: SagaState | None,
    given: Input,
    now: float,
    jitter: float,
    *,
    may_call: bool,
) -> Decision:
    """Decides as `decide` does. A decision that turns out to be too much work for the loop is given up and made in a thread."""
    if not is_large(_payload_of(given)):
        try:
            return decide(definition, state, given, now, jitter, may_call=may_call, here_max=HERE_MAX)
        except TooMuchHere:
            pass
    return await _threads.begin(partial(decide, definition, state, given, now, jitter, may_call=may_call))


def _payload_of(given: Input) -> Any:
    """The payload that an input brings from outside; None if it brings none."""
    match given:
        case StartRequested():
            return given.input
        case AttemptEnded(outcome=Succeeded(output)) | OutcomeReported(outcome=Succeeded(output)):
            return output
        case EventArrived():
            return given.payload
        case SkipAsked(output=output) | ResolveAsked(output=output):
            return output
        case _:
            return None
