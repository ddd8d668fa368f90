"""The letters in which one coordinator asks something of a saga that another one drives, and in which the owner answers.

The coordinator that asks leaves a durable letter and looks for the answer. The owner looks for letters as often as it looks for
work, and at once when it hears of a letter.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import suppress

import structlog

from saga_coordinator.engine.claiming import ROUND_SECONDS_MAX, Claiming
from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.letters import answer_body, answer_in, asked_body, asked_in
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.runs import Runs
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.lifecycle import Background, Kept, Service
from saga_coordinator.retrying import Pauses, kept_going
from saga_coordinator.saga.machine.answers import Answer
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.words.errors import OwnershipLost, Refusal, Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import Letter

LETTERS_AT_ONCE = 100
_LISTEN_PAUSES = Pauses(1.0, 1.0)
_UNKNOWN_LETTER = Refusal(
    Reason.OWNER_TOO_OLD, "the coordinator that drives this saga does not know such a request; upgrade it"
)

_log = structlog.get_logger(__name__)


class Mailbox(Service):
    """The mail of one coordinator: the letters that it left for others, and the letters that others left for it."""

    def __init__(
        self,
        stores: Stores,
        drive: Drive,
        runs: Runs,
        claiming: Claiming,
        lease: Lease,
        *,
        poll_seconds: float,
    ) -> None:
        self._letters = stores.mail
        self._listener = stores.listener
        self._coordinator_id = stores.coordinator_id
        self._drive = drive
        self._runs = runs
        self._claiming = claiming
        self._lease = lease
        self._poll_seconds = poll_seconds
        self._background = Background()
        self._arrival = Wakeup()

    async def start(self) -> None:
        """Begins to answer the letters that are left for this coordinator."""
        self._background.keep("listening for letters", self._keep_listening)
        self._background.keep("mail", self._keep_serving, turn_seconds_max=ROUND_SECONDS_MAX)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops answering letters. Other coordinators then answer those that are left."""
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep letters from being noticed or answered."""
        return self._background.problems

    async def serve(self) -> None:
        """Does what letters ask of sagas that are driven here, or that sleep and may be driven here. Raises Unavailable.

        All letters are answered at once, so that they share a commit.
        """
        found = await self._letters.unanswered(self._coordinator_id, LETTERS_AT_ONCE)
        served = await asyncio.gather(*map(self._serve, found), return_exceptions=True)
        for letter, error in zip(found, served, strict=True):
            if isinstance(error, Unavailable):
                raise error
            if error is not None:  # whatever it is, it must not keep this coordinator from its other work
                _log.error("letter_failed", saga_id=letter.saga_id, exc_info=error)

    async def _serve(self, letter: Letter) -> None:
        run = self._runs.get(letter.saga_id)
        # A coordinator of another claim group may not take over a saga that sleeps; this one may.
        if run is None and await self._claiming.claim_one(letter.saga_id):
            run = self._runs.get(letter.saga_id)
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
        """Removes a letter that was answered, or whose answer nobody waits for. If that fails, housekeeping removes it later."""
        with suppress(Unavailable):
            await self._letters.delete(letter)

    async def _keep_listening(self, kept: Kept) -> None:
        async def listen() -> None:
            kept.rests()
            await self._listener.listen(self._coordinator_id, self._arrival.look_now)
            raise Unavailable(Reason.DATABASE_UNAVAILABLE, "the connection that listens has ended")

        await kept_going(
            listen,
            is_failure=lambda error: isinstance(error, Unavailable),
            pause=lambda _: _LISTEN_PAUSES.after(1),
        )

    async def _keep_serving(self, kept: Kept) -> None:
        while True:
            kept.rests()
            await self._lease.wait_until_valid()
            kept.begins()
            try:
                await self.serve()
            except Unavailable as error:
                _log.warning("mail_paused", reason=str(error))
            kept.turned()
            await self._arrival.wait(self._poll_seconds)
