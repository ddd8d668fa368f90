"""Checks inputs by the schema of their definition. A large input does not keep others from being checked."""

from __future__ import annotations

from typing import Any

from saga_coordinator.saga.schema.input_schema import InputSchema
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.turns import Turns

AT_ONCE = 1
WAITING_MAX = 100
SECONDS_MAX = 20.0


class InputChecks:
    """Checks most inputs at once. Inputs that take more work are checked in a thread, one after the other."""

    def __init__(self) -> None:
        self._turns = Turns(
            "inputs to be checked", at_once=AT_ONCE, waiting_max=WAITING_MAX, seconds_max=SECONDS_MAX
        )

    async def check(self, schema: InputSchema | None, given: Any) -> None:
        """Raises InvalidRequest with every fault of the input, and Overloaded when too many wait."""
        if schema is None:
            return
        faults = schema.faults_soon(given)
        if faults is None:
            faults = await self._turns.in_thread(schema.faults, given)
        if faults:
            raise InvalidRequest(faults)
