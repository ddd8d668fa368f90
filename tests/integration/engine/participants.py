"""Participants in this process: honest ones, which do what a test tells them and keep books."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from saga_coordinator.participants.calls.room_news import RoomNews
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Held, Outcome, Refused, Succeeded, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION

Behaviour = Callable[[Invoke], Awaitable[Outcome | None]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as it arrived, and from which coordinator."""

    coordinator: str
    call: Invoke
    at: float
    """By the event loop's clock, in seconds."""

    @property
    def what(self) -> tuple[str, str]:
        return (self.call.step, str(self.call.operation))


class Gate:
    """A participant that waits with its answer until the test opens it."""

    def __init__(self, answer: Outcome | None = None) -> None:
        self.answer = answer
        self.waiting: list[Invoke] = []
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, call: Invoke) -> Outcome | None:
        self.waiting.append(call)
        try:
            await self._opened.wait()
        finally:
            self.waiting.remove(call)
        return self.answer


def refusing(message: str = "no", code: str = "FAILED_PRECONDITION") -> Outcome:
    return Refused(Cause(code, message))


def unknown(code: str = "UNAVAILABLE", message: str = "nobody knows") -> Outcome:
    return Unknown(Cause(code, message))


class Books:
    """What all participants together have done. A key is applied at most once, whatever is asked of them."""

    def __init__(self) -> None:
        self.applied: Counter[str] = Counter()
        self.answers: dict[str, Outcome] = {}
        self.undone: set[tuple[str, str]] = set()
        self.effects: defaultdict[str, list[str]] = defaultdict(list)
        """For each saga, what took effect, in order: the step's name, after a minus for what was undone."""

    def standing(self, saga_id: str) -> list[str]:
        """The steps whose effect stands."""
        done = [effect for effect in self.effects[saga_id] if not effect.startswith("-")]
        return [step for step in done if f"-{step}" not in self.effects[saga_id]]

    def perform(self, call: Invoke) -> Outcome:
        """As an honest participant does it: idempotent, with null compensations, and barred to latecomers."""
        known = self.answers.get(call.idempotency_key)
        if known is not None:
            return known
        answer = self._perform(call)
        self.answers[call.idempotency_key] = answer
        return answer

    def _perform(self, call: Invoke) -> Outcome:
        site, effects = (call.saga_id, call.step), self.effects[call.saga_id]
        if call.operation is ACTION:
            if site in self.undone:
                return Refused(Cause("FAILED_PRECONDITION", "too late: this was undone"))
            effects.append(call.step)
        else:
            self.undone.add(site)
            if call.step not in effects:
                return Refused(Cause("NOT_FOUND", "nothing to undo"))
            effects.append(f"-{call.step}")
        self.applied[call.idempotency_key] += 1
        return Succeeded({"done": call.step, "by": call.idempotency_key})


class Participants:
    """The way to them from one coordinator; `engine.ports.Participants`. All share the books, the calls and what is told."""

    def __init__(self, coordinator: str, shared: Participants | None = None) -> None:
        self._coordinator = coordinator
        self.names = frozenset({"inventory", "payments", "shipping"})
        self.worker_names: frozenset[str] = frozenset()
        self.books: Books = shared.books if shared else Books()
        self.seen: list[Seen] = shared.seen if shared else []
        self.room_news = RoomNews()
        self.holding: dict[str, Held] = shared.holding if shared else {}
        self.looks: list[LookForRoom] = shared.looks if shared else []
        self._told: dict[tuple[str, OperationKind], Any] = shared._told if shared else {}

    def seen_from(self, coordinator: str) -> Participants:
        return Participants(coordinator, self)

    def on(
        self, step: str, what: Outcome | Behaviour | Iterable[Outcome], operation: OperationKind = ACTION
    ) -> None:
        """Has an operation answer like that from now on: always the same, a list one by one, or whatever a function says.

        After a list's end, and where a function says None, the operation is performed.
        """
        self._told[step, operation] = what if callable(what) or isinstance(what, Outcome) else iter(what)

    def calls(
        self, step: str = "", operation: OperationKind | None = None, saga_id: str = ""
    ) -> list[Invoke]:
        """The calls that have arrived, in order."""
        return [
            seen.call
            for seen in self.seen
            if (not step or seen.call.step == step)
            and (operation is None or seen.call.operation is operation)
            and (not saga_id or seen.call.saga_id == saga_id)
        ]

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        """There is room but for those participants that a test has made hold attempts."""
        self.looks.append(wanted)
        return self.holding.get(wanted.participant)

    async def room_found(self) -> str:
        return await self.room_news.heard()

    async def invoke(self, call: Invoke) -> Outcome:
        if held := self.holding.get(call.participant):
            return held
        self.seen.append(Seen(self._coordinator, call, asyncio.get_running_loop().time()))
        try:
            async with asyncio.timeout(call.timeout_seconds):
                return await self._answer(call)
        except TimeoutError:
            return Unknown(Cause("DEADLINE_EXCEEDED", f"no answer within {call.timeout_seconds:g} s"))

    async def _answer(self, call: Invoke) -> Outcome:
        told = self._told.get((call.step, call.operation))
        answer: Outcome | None
        if told is None:
            answer = None
        elif isinstance(told, Outcome):
            answer = told
        elif callable(told):
            answer = await told(call)
        else:
            answer = next(told, None)
        if answer is None or (isinstance(answer, Succeeded) and answer.output is None):
            return self.books.perform(call)
        return answer
