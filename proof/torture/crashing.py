"""The ordinary program, made to kill itself at a named point of its work, or to live by a wrong clock.

    TORTURE_CRASH_AT="after commit of action outcome:3" TORTURE_CLOCK_SHIFT=-18000 python -m proof.torture.crashing serve ...

`POINTS` lists the points; the number says at which passage. It is disarmed once the file that TORTURE_DISARMED_BY names
exists. What it writes before it dies is one line of JSON, as the program's other log lines are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import os
import signal
import sys
import time
import types
from collections.abc import Sequence
from typing import Any, Final

from proof.torture.dying import die_with_parent

WRITES: Final = (
    "start",
    "action intent",
    "action outcome",
    "compensation intent",
    "compensation outcome",
    "turn",
    "end",
    "adoption",
)
POINTS: Final = (
    *(f"{when} commit of {write}" for write in WRITES for when in ("before", "during", "after")),
    *(
        f"{when} call of {operation}"
        for operation in ("action", "compensation")
        for when in ("before", "after")
    ),
)
CRASHED: Final = "crashed_on_purpose"

_TrueDatetime = dt.datetime

_OUTCOMES: Final = (
    "AttemptSucceeded",
    "AttemptRefused",
    "AttemptUnknown",
    "AttemptUnresolved",
    "AttemptPending",
    "NothingToUndo",
    "InputInvalid",
    "OutcomeLate",
)
_OF_SAGA: Final = {
    "SagaStarted": "start",
    "SagaAdopted": "adoption",
    "SagaFailed": "turn",
    "SagaCompleted": "end",
    "SagaCompensated": "end",
    "SagaParked": "end",
    "SagaUnparked": "turn",
    "UndoUnparked": "turn",
}


def writes_of(entries: Sequence[Any]) -> set[str]:
    """Which of `WRITES` a saga's entries are."""
    found = set()
    for entry in entries:
        kind = type(entry).__name__
        if kind == "AttemptStarted":
            found.add(f"{entry.operation} intent")
        elif kind in _OUTCOMES:
            found.add(f"{entry.operation} outcome")
        elif kind in _OF_SAGA:
            found.add(_OF_SAGA[kind])
    return found


class Trap:
    """Kills the process at the given passage of a point."""

    def __init__(self, point: str, passage: int, disarmed_by: str) -> None:
        self.point = point
        self.left = passage
        self._disarmed_by = disarmed_by

    def passes(self, when: str, what: set[str]) -> bool:
        """Whether this is the point, and the passage at which to die."""
        if not any(self.point == f"{when} {each}" for each in what):
            return False
        self.left -= 1
        return self.left == 0

    def spring(self) -> None:
        if os.path.exists(self._disarmed_by):  # noqa: PTH110  # it may be empty, for none
            return
        line = {"event": CRASHED, "point": self.point, "at": time.clock_gettime(time.CLOCK_REALTIME)}
        os.write(2, json.dumps(line).encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)


def set_trap(point: str, passage: int, disarmed_by: str) -> None:
    """Lays a trap into the journal, the log's session and the calls of this process."""
    from saga_coordinator.participants.attempts import Attempts  # noqa: PLC0415  # only after the clock is shifted
    from saga_coordinator.store.appends import WrittenAppend  # noqa: PLC0415
    from saga_coordinator.store.journal import Journal  # noqa: PLC0415
    from saga_coordinator.store.log_writer import PostgresLogSession  # noqa: PLC0415

    if point not in POINTS:
        raise SystemExit(f"no such point: {point!r}")
    trap = Trap(point, passage, disarmed_by)
    submit, write, invoke = Journal.submit, PostgresLogSession.write, Attempts.invoke

    def commits(appends: Sequence[Any]) -> set[str]:
        return {f"commit of {each}" for one in appends for each in writes_of(one.entries)}

    def submitting(self: Journal, one: Any) -> asyncio.Future[float | None]:
        if trap.passes("before", commits([one])):
            trap.spring()

        def after(committed: asyncio.Future[float | None]) -> None:
            is_committed = not committed.cancelled() and committed.exception() is None
            if is_committed and trap.passes("after", commits([one])):
                trap.spring()

        committed = submit(self, one)
        committed.add_done_callback(after)  # the first, so that nobody has heard of it yet
        return committed

    async def writing(self: PostgresLogSession, appends: Sequence[WrittenAppend]) -> float | None:
        if trap.passes("during", commits([each.append for each in appends])):
            # The statement is on its way when this is due; whether it commits is between Postgres and chance.
            asyncio.get_running_loop().call_later(0.0005 * (os.getpid() % 5), trap.spring)
        return await write(self, appends)

    async def invoking(self: Attempts, call: Any, *rest: Any) -> Any:
        what = {f"call of {call.operation}"}
        if trap.passes("before", what):
            trap.spring()
        outcome = await invoke(self, call, *rest)
        if trap.passes("after", what):
            trap.spring()
        return outcome

    for room, name, trapped in (
        (Journal, "submit", submitting),
        (PostgresLogSession, "write", writing),
        (Attempts, "invoke", invoking),
    ):
        setattr(room, name, trapped)


def shift_clock(seconds: float) -> None:
    """Has everything in this process that asks Python for the time of day be wrong by `seconds`.

    But gRPC's own modules: they compute deadlines that its core, in C, compares with the system's clock.
    """
    true_time, true_time_ns = time.time, time.time_ns
    true = types.SimpleNamespace(**vars(time))
    importlib.import_module("grpc.aio")

    for name, module in tuple(sys.modules.items()):
        if name.startswith("grpc.") and getattr(module, "time", None) is time:
            module.time = true  # type: ignore[attr-defined]
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + int(seconds * 1e9)

    class OfAnyKind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, _TrueDatetime)

    class Shifted(_TrueDatetime, metaclass=OfAnyKind):
        __slots__ = ()  # modules in C check the size

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return _TrueDatetime.now(tz) + dt.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(dt.UTC).replace(tzinfo=None)

    dt.datetime = Shifted  # type: ignore[misc]


def main() -> None:
    die_with_parent()
    if shift := float(os.environ.get("TORTURE_CLOCK_SHIFT", "0")):
        shift_clock(shift)
    if crash_at := os.environ.get("TORTURE_CRASH_AT"):
        point, _, passage = crash_at.rpartition(":")
        set_trap(point, int(passage), os.environ.get("TORTURE_DISARMED_BY", ""))
    from saga_coordinator.cli import main as program  # noqa: PLC0415  # only after the clock is shifted

    program()


if __name__ == "__main__":
    main()
