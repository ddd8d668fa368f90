"""What other coordinators ask is decided all at once, and shares a commit."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from saga_coordinator.engine.claiming import Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.letters import asked_body
from saga_coordinator.engine.mail import Mailbox
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.runs import Runs
from saga_coordinator.saga.machine.answers import APPLIED
from saga_coordinator.saga.machine.inputs import CancelAsked
from saga_coordinator.store.records import Letter

LETTERS = [
    Letter(f"saga-{number}", f"letter-{number}", asked_body(CancelAsked("", ""))) for number in range(3)
]


class Commit:
    """Stands for the drive and its runs: an answer comes once everything that is to share the commit has been asked."""

    def __init__(self) -> None:
        self._runs = {letter.saga_id: object() for letter in LETTERS}
        self._asked = 0
        self._is_committed = asyncio.Event()

    def get(self, saga_id: str) -> object:
        return self._runs[saga_id]

    async def ask(self, run: object, asked: object) -> Any:
        self._asked += 1
        if self._asked == len(LETTERS):
            self._is_committed.set()
        await self._is_committed.wait()
        return SimpleNamespace(answer=APPLIED)


class Mail:
    def __init__(self) -> None:
        self.answered: list[str] = []

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        return LETTERS

    async def answer(self, letter: Letter, answer: dict[str, Any]) -> None:
        self.answered.append(letter.letter_id)


async def test_letters_about_several_sagas_share_a_commit() -> None:
    mail, commit = Mail(), Commit()
    mailbox = Mailbox(
        cast("Stores", SimpleNamespace(mail=mail, listener=None, coordinator_id="me")),
        cast("Drive", commit),
        cast("Runs", commit),
        cast("Claiming", None),
        cast("Lease", None),
        poll_seconds=0.5,
    )

    async with asyncio.timeout(5):
        await mailbox.serve()

    assert sorted(mail.answered) == [letter.letter_id for letter in LETTERS]
