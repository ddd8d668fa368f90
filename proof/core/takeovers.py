"""What the log shows of takeovers that lead nowhere: counted anew, not as the core counts them."""

from __future__ import annotations

from proof.core.breach import check
from saga_coordinator.saga.machine import entries as log
from saga_coordinator.saga.words.identity import OperationKind

LOST, NO_PROGRESS = "COORDINATOR_LOST", "NO_PROGRESS"
PAUSES = {0: 0.0, 1: 0.0, 2: 2.0, 3: 8.0, 4: 32.0, 5: 128.0, 6: 512.0, 7: 0.0}
"""Seconds until what was lost is attempted again, by the takeovers in a row without progress."""


class Takeovers:
    """Follows one saga's log."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.parked = 0
        """How often the saga was parked for them."""
        self._in_flight: set[tuple[str, OperationKind]] = set()

    @property
    def is_parked_for_them(self) -> bool:
        return self.in_a_row >= 7

    def decided(self, entries: tuple[log.Entry, ...], deadlines: dict[str, float], now: float) -> None:
        """Raises Breach. `deadlines` of the steps' actions, where they have any."""
        for entry in entries:
            match entry:
                case log.SagaAdopted():
                    self.in_a_row += bool(self._in_flight)
                case log.SagaParked(cause):
                    is_theirs = cause.code == NO_PROGRESS
                    check(
                        is_theirs == self.is_parked_for_them,
                        f"parked after {self.in_a_row} takeovers: {cause}",
                    )
                    self.parked += is_theirs
                case log.SagaUnparked() | log.UndoUnparked():
                    check(not self.is_parked_for_them, "it goes on, and nothing has been learned")
                case log.SagaFailed() | log.SagaRecalled():
                    self.in_a_row = 0
                case _:
                    self._follow(entry, deadlines, now)

    def _follow(self, entry: log.Entry, deadlines: dict[str, float], now: float) -> None:
        if not log.is_about_step(entry):
            return
        operation = (entry.step, entry.operation)
        if isinstance(entry, log.AttemptStarted):
            check(not self.is_parked_for_them, f"{entry.step} is attempted after seven takeovers")
            self._in_flight.add(operation)
            self.in_a_row = 0 if entry.attempt == 1 else self.in_a_row
            return
        if not isinstance(entry, log.OutcomeLate):
            self._in_flight.discard(operation)
        is_lost = getattr(entry, "cause", None) is not None and entry.cause.code == LOST  # type: ignore[union-attr]
        if is_lost and isinstance(entry, log.AttemptUnknown):
            left = (
                deadlines.get(entry.step, float("inf")) - now
                if entry.operation is OperationKind.ACTION
                else None
            )
            pause = PAUSES[min(self.in_a_row, 7)]
            pause = pause if left is None else min(pause, max(0.0, left))
            check(
                abs(entry.retry_delay_seconds - pause) < 1e-6,
                f"{entry.step} waits {entry.retry_delay_seconds} s",
            )
        if not is_lost and not isinstance(entry, log.AttemptHeld):
            self.in_a_row = 0
