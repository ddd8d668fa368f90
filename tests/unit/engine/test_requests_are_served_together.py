"""What other coordinators ask is done all at once, because recovery takes turns with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.mail import Mailbox, encode_asked
from saga_coordinator.engine.ports import Listener, MailStore
from saga_coordinator.saga.machine.decide import CancelAsked
from saga_coordinator.store.records import Letter

ASKED = [
    Letter(f"saga-{number}", f"request-{number}", encode_asked(CancelAsked("", ""))) for number in range(3)
]


class Commit:
    """Stands for the drive: an answer comes once everything that is to share the commit has been asked."""

    def __init__(self) -> None:
        self.runs = {request.saga_id: object() for request in ASKED}
        self._asked = 0
        self._is_committed = asyncio.Event()

    async def ask(self, run: object, happened: object) -> Any:
        self._asked += 1
        if self._asked == len(ASKED):
            self._is_committed.set()
        await self._is_committed.wait()
        return SimpleNamespace(refusal=None, is_applied=True, because=None, heartbeat=None)


class Letters:
    def __init__(self) -> None:
        self.answered: list[str] = []

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        return ASKED

    async def answer(self, request: Letter, answer: dict[str, Any]) -> None:
        self.answered.append(request.request_id)


async def test_requests_about_several_sagas_share_a_commit() -> None:
    letters = Letters()
    inbox = Mailbox(cast("MailStore", letters), cast("Listener", None), cast("Drive", Commit()), "me")

    async with asyncio.timeout(5):
        await inbox.serve()

    assert sorted(letters.answered) == [request.request_id for request in ASKED]
