"""Deciding where it holds nobody up: mostly on the loop, and in a thread what is more work than a few milliseconds.

To decide is pure, so where it is done makes no difference to what comes of it. Meanwhile the loop turns, since the interpreter
passes from thread to thread every few milliseconds. What comes with a large payload is decided in a thread at once, because the
decision first looks through the whole of the payload.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.decide import (
    AttemptEnded,
    Decision,
    EventArrived,
    Input,
    OutcomeReported,
    StartRequested,
    decide,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.words.meter import TooMuchHere
from saga_coordinator.saga.words.outcome import Succeeded
from saga_coordinator.turns import Threads
from saga_coordinator.wire.conversion import is_large

HERE_MAX = 400_000
"""Units of `meter` that the loop spends on one decision: about ten milliseconds."""

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
    """As `decide`; what turns out to be too much for the loop is given up there and decided anew in a thread."""
    if not is_large(_payload_of(given)):
        try:
            return decide(definition, state, given, now, jitter, may_call=may_call, here_max=HERE_MAX)
        except TooMuchHere:
            pass
    return await _threads.begin(partial(decide, definition, state, given, now, jitter, may_call=may_call))


def _payload_of(given: Input) -> Any:
    """What comes with an input from outside; None where nothing does."""
    match given:
        case StartRequested():
            return given.input
        case AttemptEnded(outcome=Succeeded(output)) | OutcomeReported(outcome=Succeeded(output)):
            return output
        case EventArrived():
            return given.payload
        case _:
            return None
