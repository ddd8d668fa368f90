"""What is asked of a saga that another coordinator drives, and how its owner answers.

The asker leaves a durable request and looks for the answer; the owner looks for requests whenever it looks for work, and at
once when it hears of one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.ports import Listener, MailStore
from saga_coordinator.lifecycle import Background, Kept
from saga_coordinator.saga.machine.decide import (
    ApprovalDecided,
    CancelAsked,
    Decision,
    EventArrived,
    HeartbeatReceived,
    NotApplied,
    OutcomeReported,
    RecallAsked,
)
from saga_coordinator.saga.machine.effects import HeartbeatTaken
from saga_coordinator.saga.words.errors import OwnershipLost, Refusal, Unavailable
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import Letter

REQUESTS_AT_ONCE = 100
_LISTEN_AGAIN_SECONDS = 1.0

Asked = CancelAsked | OutcomeReported | HeartbeatReceived | EventArrived | ApprovalDecided | RecallAsked

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a saga's owner says: `refusal` is None when it did as asked; `is_applied` whether that moved anything.

    `because` and `heartbeat` as in `Decision`; also None from an owner of an earlier version.
    """

    refusal: Refusal | None
    is_applied: bool
    because: NotApplied | None = None
    heartbeat: HeartbeatTaken | None = None


def answer_of(decision: Decision) -> Answer:
    return Answer(decision.refusal, decision.is_applied, decision.because, decision.heartbeat)


def encode_answer(answer: Answer) -> dict[str, Any]:
    """The JSON that an answered request carries; what is None is left out, as earlier versions do not know of it."""
    because, refusal = answer.because, answer.refusal
    body: dict[str, Any] = {
        "refusal": refusal.message if refusal else None,
        "is_applied": answer.is_applied,
    }
    if refusal is not None:
        body["reason"] = refusal.reason
    if because is NotApplied.CONTRADICTS:  # which version 0.1.0 does not know; to it, it is a repetition
        body |= {"because": NotApplied.REPEATED, "contradicts": True}
    elif because is not None:
        body["because"] = because
    if answer.heartbeat is not None:
        body["heartbeat"] = asdict(answer.heartbeat)
    return body


def decode_answer(body: dict[str, Any]) -> Answer:
    """What `encode_answer` encoded."""
    because, heartbeat = body.get("because"), body.get("heartbeat")
    if body.get("contradicts"):
        because = NotApplied.CONTRADICTS
    return Answer(
        _refusal(body),
        body["is_applied"],
        NotApplied(because) if because else None,
        HeartbeatTaken(**heartbeat) if heartbeat else None,
    )


def _refusal(body: dict[str, Any]) -> Refusal | None:
    """An owner of version 0.1.0 does not say the reason; one of a later version may say one that is not known here."""
    if body["refusal"] is None:
        return None
    reason = Reason.__members__.get(body.get("reason", ""), Reason.OWNER_TOO_OLD)
    return Refusal(reason, body["refusal"])


def encode_asked(asked: Asked) -> dict[str, Any]:
    """The JSON that a request carries."""
    match asked:
        case CancelAsked():
            return {"kind": "cancel", "reason": asked.reason, "requested_by": asked.requested_by}
        case OutcomeReported(step, operation, outcome, attempt):
            about = {"step": step, "operation": str(operation), "attempt": attempt}
            return {"kind": "report", **about, **_encode_outcome(outcome)}
        case HeartbeatReceived():
            return {"kind": "heartbeat", **asdict(asked), "operation": str(asked.operation)}
        case EventArrived():
            return {"kind": "event", **asdict(asked)}
        case ApprovalDecided():
            return {"kind": "approval", **asdict(asked)}
        case RecallAsked(cause):
            return {"kind": "recall", "cause": asdict(cause)}


def decode_asked(body: dict[str, Any]) -> Asked:
    """What `encode_asked` encoded."""
    rest = {name: value for name, value in body.items() if name != "kind"}
    match body["kind"]:
        case "cancel":
            return CancelAsked(**rest)
        case "event":
            return EventArrived(**rest)
        case "approval":
            return ApprovalDecided(**rest)
        case "heartbeat":
            return HeartbeatReceived(**{**rest, "operation": OperationKind(rest["operation"])})
        case "recall":
            return RecallAsked(Cause(**body["cause"]))
        case _:
            return _decode_report(body)


def _decode_report(body: dict[str, Any]) -> OutcomeReported:
    return OutcomeReported(
        body["step"], OperationKind(body["operation"]), _decode_outcome(body), body.get("attempt", 0)
    )


def _encode_outcome(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Succeeded(output):
            return {"outcome": "succeeded", "output": output}
        case Refused(cause, retry_after_seconds=seconds):
            return {"outcome": "refused", "cause": asdict(cause), "retry_after_seconds": seconds}
        case Unknown(cause, seconds):
            return {"outcome": "unknown", "cause": asdict(cause), "retry_after_seconds": seconds}
        case _:  # nobody reports that an operation is held
            return {"outcome": "pending"}


def _decode_outcome(body: dict[str, Any]) -> Outcome:
    match body["outcome"]:
        case "succeeded":
            return Succeeded(body["output"])
        case "refused":
            return Refused(Cause(**body["cause"]), retry_after_seconds=_pause(body))
        case "unknown":
            return Unknown(Cause(**body["cause"]), _pause(body))
        case _:
            return Pending()


def _pause(body: dict[str, Any]) -> float:
    """Coordinators of version 0.1.0 do not say it."""
    return float(body.get("retry_after_seconds", 0.0))


async def _claim_nothing(saga_id: str) -> bool:
    return False


class Mailbox:
    """The mail of one coordinator: the letters it left for others, and those left for it."""

    def __init__(self, requests: MailStore, listener: Listener, drive: Drive, coordinator_id: str) -> None:
        self._requests = requests
        self._listener = listener
        self._drive = drive
        self._coordinator_id = coordinator_id
        self._background = Background()
        self.claim_one: Callable[[str], Awaitable[bool]] = _claim_nothing
        """Takes over a saga that sleeps, for a coordinator of another claim group that may not."""

    def start(self, on_request: Callable[[], None]) -> None:
        """Begins to hear of requests; `on_request` should have `serve` called soon."""

        async def listen(kept: Kept) -> None:
            await self._keep_listening(kept, on_request)

        self._background.keep("the inbox", listen)

    async def stop(self) -> None:
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """What keeps it from hearing of requests."""
        return self._background.problems

    async def serve(self) -> None:
        """Does what others ask of sagas that are driven here, or that sleep and may be. Raises Unavailable.

        All at once, sharing a commit: whoever looks for work waits for this, and with it what a dead coordinator has left.
        """
        found = await self._requests.unanswered(self._coordinator_id, REQUESTS_AT_ONCE)
        served = await asyncio.gather(*map(self._serve, found), return_exceptions=True)
        for request, error in zip(found, served, strict=True):
            if isinstance(error, Unavailable):
                raise error
            if error is not None:  # whatever it is, it must not keep this coordinator from its other work
                _log.error("request_failed", saga_id=request.saga_id, exc_info=error)

    async def _serve(self, request: Letter) -> None:
        run = self._drive.runs.get(request.saga_id)
        if run is None and await self.claim_one(request.saga_id):
            run = self._drive.runs.get(request.saga_id)
        if run is None:
            return
        try:
            asked = decode_asked(request.input)
        except (LookupError, TypeError, ValueError):
            answer = Answer(
                Refusal(
                    Reason.OWNER_TOO_OLD,
                    "the coordinator that drives this saga does not know such a request; upgrade it",
                ),
                is_applied=False,
            )
        else:
            try:
                decision = await self._drive.ask(run, asked)
            except OwnershipLost:  # then it is its next owner's to answer
                return
            answer = answer_of(decision)
        await self._requests.answer(request, encode_answer(answer))

    async def tidy(self) -> None:
        """Removes what was asked by those who never came back for the answer. Raises Unavailable."""
        await self._requests.delete_abandoned()

    async def leave(self, saga_id: str, asked: Asked) -> Letter:
        """Leaves a request for the saga's owner. Raises Unavailable."""
        request = Letter(saga_id, str(uuid.uuid4()), encode_asked(asked))
        await self._requests.put(request)
        return request

    async def answer_to(self, request: Letter) -> Answer | None:
        """The owner's answer, once there is one. Raises Unavailable."""
        answer = await self._requests.answer_to(request)
        return None if answer is None else decode_answer(answer)

    async def take_back(self, request: Letter) -> None:
        """Removes a request that was answered, or whose answer nobody waits for; if that fails, time removes it."""
        with suppress(Unavailable):
            await self._requests.delete(request)

    async def _keep_listening(self, kept: Kept, on_request: Callable[[], None]) -> None:
        while True:
            kept.rests()
            with suppress(Unavailable):
                await self._listener.listen(self._coordinator_id, on_request)
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)
