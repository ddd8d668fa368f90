"""Makes attempts: one call of `Attempts.invoke` is one RPC, or one task of a worker."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import structlog

from saga_coordinator.lifecycle import Service
from saga_coordinator.participants.calls.connections import Connections
from saga_coordinator.participants.calls.contract import (
    encode_request,
    metadata_of,
    outcome_of_reply,
)
from saga_coordinator.participants.calls.described import DescribedServices
from saga_coordinator.participants.calls.gates import Gates
from saga_coordinator.participants.calls.plain_method import outcome_told
from saga_coordinator.participants.calls.reflection import DESCRIPTORS_BYTES_MIN, Reflection
from saga_coordinator.participants.directory.addresses import Directory, Participant
from saga_coordinator.participants.directory.names import how_to_add
from saga_coordinator.participants.workers.workers import Workers
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom
from saga_coordinator.saga.words.outcome import (
    Cause,
    CauseCode,
    Held,
    Outcome,
    Refused,
    Unknown,
    clip,
    outcome_of_failure,
)
from saga_coordinator.saga.words.token import token_of
from saga_coordinator.wire.conversion import convert, size_of
from saga_coordinator.wire.not_before import pause_asked
from saga_coordinator.wire.outcomes import invalid_reply
from saga_coordinator.wire.payload import PayloadError, message_bytes_max

_OVERDUE_SECONDS = 2.0
"""How long after its deadline a call that did not come back is given up here."""

NO_SUCH_PARTICIPANT_SECONDS = 6.0
"""After how long a name that nobody knows here is looked up again: meanwhile its saga needs no memory."""

_log = structlog.get_logger(__name__)


class Attempts(Service):
    """Makes the attempts that the core asks for. Used from one event loop."""

    def __init__(
        self, directory: Directory, *, payload_bytes_max: int, workers: Workers | None = None
    ) -> None:
        self._workers = workers or Workers()
        self._worker_names = directory.worker_names
        self._directory = directory
        self._room_news = self._workers.room_news
        self.gates = Gates(directory, self._room_news)
        self._names = directory.names
        self._missed: set[str] = set()
        """Names that were called and that nobody here knows; each is logged once."""
        self._payload_bytes_max = payload_bytes_max
        self._request_bytes_max = message_bytes_max(payload_bytes_max)
        # More than a payload may have, so that one that is too large is told by how much.
        self._reply_bytes_max = min(max(4 * payload_bytes_max + 65_536, DESCRIPTORS_BYTES_MIN), 2**31 - 1)
        self.connections = Connections(
            directory,
            payload_bytes_max=payload_bytes_max,
            request_bytes_max=self._request_bytes_max,
            reply_bytes_max=self._reply_bytes_max,
        )

    @property
    def directory(self) -> Directory:
        """The directory in use."""
        return self._directory

    @property
    def names(self) -> frozenset[str]:
        """The participants that the directory knows."""
        return self._names

    @property
    def worker_names(self) -> frozenset[str]:
        """The participants that dial the coordinator: their attempts are tasks."""
        return self._worker_names

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt, which has ended `call.timeout_seconds` from now.

        Nothing that a participant does raises. If this is cancelled, the call is cancelled; `stop` also cancels calls that
        outlast its grace. The outcome of a cancelled call is not known and is not invented here.
        """
        if self.connections.is_stopping:
            raise asyncio.CancelledError("the participants are being closed")
        gate = self.gates.of(call.participant)
        if gate is None:
            return self._unknown(call.participant)
        return await gate.pass_through(call, self._attempt)

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        """The reason why an attempt would be held now, with when to look again; None if it would not be held.

        In that case a place is kept for the attempt for a moment, or all who look would find the same place.
        """
        gate = self.gates.of(wanted.participant)
        if gate is None:
            return self._unknown(wanted.participant)
        held = gate.keep_room(wanted)
        if held is None and wanted.participant in self._worker_names:
            held = await self._workers.look_for_room(wanted.participant, wanted.method)
            if held is not None:
                gate.give_room_back(wanted)
        return held

    async def room_found(self) -> str:
        """Waits until held attempts may find room at some participant; returns the participant's name."""
        return await self._room_news.heard()

    async def _attempt(self, call: Invoke) -> Outcome:
        """Makes the attempt once there is room for it. The directory may have been replaced meanwhile."""
        if self.connections.is_stopping:
            raise asyncio.CancelledError("the participants are being closed")
        if call.participant in self._worker_names:
            return await self._workers.invoke(call)
        connection = self.connections.of(call.participant)
        if connection is None:
            return self._unknown(call.participant)
        is_plain = "/" in call.method
        token = token_of(call.saga_id, call.step, call.operation, call.attempt)
        clock = asyncio.get_running_loop().time
        ends_at = clock() + call.timeout_seconds
        self.connections.began(connection)
        try:
            async with asyncio.timeout(call.timeout_seconds + _OVERDUE_SECONDS):
                if is_plain:
                    return await self.connections.plain_methods(call.participant, connection).attempt(
                        call, token
                    )
                size = size_of(call.input)
                request = await convert(size, encode_request, call, token, self._request_bytes_max)
                if (seconds := ends_at - clock()) <= 0:
                    return _not_sent(call)
                reply = await connection.methods[call.operation](
                    request, timeout=seconds, metadata=metadata_of(call, token)
                )
        except PayloadError as error:  # nothing was sent, and nothing will be different next time
            return Refused(Cause(CauseCode.INPUT_INVALID, clip(f"the input cannot be sent: {error}")))
        except grpc.aio.AioRpcError as error:
            told = (
                outcome_told(error.code().name, error.details() or "", error.trailing_metadata())
                if is_plain
                else None
            )
            return told or self._outcome_of_error(error, call)
        except TimeoutError:
            return _no_answer(call)
        finally:
            self.connections.ended(connection)
        size = len(reply or b"")
        return await convert(size, outcome_of_reply, call.operation, reply, self._payload_bytes_max)

    def described_afresh(self, name: str) -> DescribedServices | None:
        """What the participant serves at this moment; the caller closes it. None for a worker, and for an unknown participant."""
        participant, connection = self._directory.get(name), self.connections.of(name)
        if participant is None or connection is None:
            return None
        source = participant.descriptor_set or Reflection(connection.channel)
        return DescribedServices(source, can_change=False)

    async def services_listed(self, name: str) -> list[str] | None:
        """The services that the server at the participant's address lists at this moment, whatever its descriptor set says.

        None for a worker, and for an unknown participant. Raises NotDescribed with the status if the server does not say.
        """
        connection = self.connections.of(name)
        if connection is None:
            return None
        return await Reflection(connection.channel).served()

    async def methods_of_workers(self, name: str) -> frozenset[str] | None:
        """The methods that the participant's workers perform, here or elsewhere: empty for all, None without a worker."""
        return await self._workers.methods_of(name)

    def replace(self, directory: Directory) -> None:
        """Uses `directory` from the next call on. A channel that is not needed any more is closed once its calls have ended."""
        self._directory = directory
        self.gates.replace(directory)
        self.connections.replace(directory)
        known, self._names = self._names, directory.names
        self._worker_names = directory.worker_names
        self._missed -= self._names
        for name in sorted(self._names - known):
            self._room_news.tell(name)

    def change(self, name: str, participant: Participant | None) -> None:
        """Replaces that participant alone, as `replace` would. None removes the participant."""
        self._directory = directory = self._directory.changed(name, participant)
        self.gates.change(directory, name)
        self.connections.change(directory, name)
        self._names = directory.names
        self._worker_names = directory.worker_names
        if participant is not None:
            self._missed.discard(name)
            self._room_news.tell(name)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Takes no more calls, gives those in flight `grace_seconds` to end, then cancels them."""
        await self.connections.stop(grace_seconds)

    def _unknown(self, name: str) -> Held:
        """The outcome for an unknown participant. Nothing was sent. Another coordinator may know it, or this one in a moment."""
        remedy = how_to_add(self._directory, name)
        if name not in self._missed:
            self._missed.add(name)
            _log.warning("participant_not_known", participant=name, remedy=remedy)
        return Held(Cause(CauseCode.NO_SUCH_PARTICIPANT, remedy), NO_SUCH_PARTICIPANT_SECONDS)

    def _outcome_of_error(self, error: grpc.aio.AioRpcError, call: Invoke) -> Refused | Unknown:
        code, message = error.code(), error.details() or ""
        # Only its words tell that a status was made by gRPC on this side.
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and "Deadline Exceeded" in message:
            return _no_answer(call)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and f" vs. {self._reply_bytes_max})" in message:
            return invalid_reply(
                f"the reply is larger than the limit of {self._payload_bytes_max} bytes: {message}"
            )
        return outcome_of_failure(code.name, message, pause_asked(error.trailing_metadata()))


def _not_sent(call: Invoke) -> Unknown:
    message = f"the input was not encoded within {call.timeout_seconds:g} s, because too many large inputs were before it"
    return Unknown(Cause("DEADLINE_EXCEEDED", message), was_sent=False)


def _no_answer(call: Invoke) -> Refused | Unknown:
    return outcome_of_failure("DEADLINE_EXCEEDED", f"no answer within {call.timeout_seconds:g} s")
