"""The letters in which one coordinator asks something of a saga that another one drives, and in which the owner answers.

Whoever asks leaves a durable letter and looks for the answer. The owner looks for letters whenever it looks for work, and at once
when it hears of one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import structlog

from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.letters import answer_body, answer_in, asked_body, asked_in
from saga_coordinator.engine.ports import Listener, MailStore
from saga_coordinator.lifecycle import Background, Kept
from saga_coordinator.saga.machine.answers import Answer
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.words.errors import OwnershipLost, Refusal, Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import Letter

LETTERS_AT_ONCE = 100
_LISTEN_AGAIN_SECONDS = 1.0
_UNKNOWN_LETTER = Refusal(
    Reason.OWNER_TOO_OLD, "the coordinator that drives this saga does not know such a request; upgrade it"
)

_log = structlog.get_logger(__name__)


async def _claim_nothing(saga_id: str) -> bool:
    return False


class Mailbox:
    """The mail of one coordinator: the letters it left for others, and those left for it."""

    def __init__(self, letters: MailStore, listener: Listener, drive: Drive, coordinator_id: str) -> None:
        self._letters = letters
        self._listener = listener
        self._drive = drive
        self._coordinator_id = coordinator_id
        self._background = Background()
        self.claim_one: Callable[[str], Awaitable[bool]] = _claim_nothing
        """Takes over a saga that sleeps, for a coordinator of another claim group that may not."""

    def start(self, on_letter: Callable[[], None]) -> None:
        """Begins to hear of letters; `on_letter` should have `serve` called soon."""

        async def listen(kept: Kept) -> None:
            await self._keep_listening(kept, on_letter)

        self._background.keep("the mailbox", listen)

    async def stop(self) -> None:
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps it from hearing of letters."""
        return self._background.problems

    async def serve(self) -> None:
        """Does what letters ask of sagas that are driven here, or that sleep and may be. Raises Unavailable.

        All letters are answered at once and share a commit: whoever looks for work waits for this, and with it what a dead
        coordinator has left.
        """
        found = await self._letters.unanswered(self._coordinator_id, LETTERS_AT_ONCE)
        served = await asyncio.gather(*map(self._serve, found), return_exceptions=True)
        for letter, error in zip(found, served, strict=True):
            if isinstance(error, Unavailable):
                raise error
            if error is not None:  # whatever it is, it must not keep this coordinator from its other work
                _log.error("letter_failed", saga_id=letter.saga_id, exc_info=error)

    async def _serve(self, letter: Letter) -> None:
        run = self._drive.runs.get(letter.saga_id)
        if run is None and await self.claim_one(letter.saga_id):
            run = self._drive.runs.get(letter.saga_id)
        if run is None:
            return
        answer: Answer
        try:
            asked = asked_in(letter.body)
        except (LookupError, TypeError, ValueError):
            answer = _UNKNOWN_LETTER
        else:
            try:
                answer = (await self._drive.ask(run, asked)).answer
            except OwnershipLost:  # then it is its next owner's to answer
                return
        await self._letters.answer(letter, answer_body(answer))

    async def tidy(self) -> None:
        """Removes letters whose writers never came back for the answer. Raises Unavailable."""
        await self._letters.delete_abandoned()

    async def leave(self, saga_id: str, asked: Asked) -> Letter:
        """Leaves a letter for the saga's owner. Raises Unavailable."""
        letter = Letter(saga_id, str(uuid.uuid4()), asked_body(asked))
        await self._letters.put(letter)
        return letter

    async def answer_to(self, letter: Letter) -> Answer | None:
        """The owner's answer, once there is one. Raises Unavailable."""
        body = await self._letters.answer_to(letter)
        return None if body is None else answer_in(body)

    async def take_back(self, letter: Letter) -> None:
        """Removes a letter that was answered, or whose answer nobody waits for; if that fails, time removes it."""
        with suppress(Unavailable):
            await self._letters.delete(letter)

    async def _keep_listening(self, kept: Kept, on_letter: Callable[[], None]) -> None:
        while True:
            kept.rests()
            with suppress(Unavailable):
                await self._listener.listen(self._coordinator_id, on_letter)
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)
