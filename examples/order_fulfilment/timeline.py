"""Tells a saga's log as it grows: when, which step, what happened and why."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.text import Text
from saga_client.v1 import saga_pb2
from saga_client.v1.saga_service_pb2 import GetSagaRequest
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from order_fulfilment.processes import POLL_SECONDS, DemoError

FOLLOW_SECONDS: Final = 40.0
CAUSE_CHARACTERS: Final = 72

ENDED: Final = {"COMPLETED", "COMPENSATED", "ABANDONED", "NEEDS_ATTENTION"}
# Only COMPLETED is success, so nothing else is green.
STATUS_STYLES: Final = {"COMPLETED": "bold green", "COMPENSATED": "bold yellow"}

# What an entry's type means: for an action, for a compensation, and its style.
WORDS: Final = {
    "saga_started": ("started", "", ""),
    "saga_adopted": ("taken over by a coordinator that is alive", "", "magenta"),
    "attempt_started": (
        "calling {participant}, attempt {attempt}",
        "undoing at {participant}, attempt {attempt}",
        "dim",
    ),
    "attempt_succeeded": ("done", "undone", ""),
    "attempt_refused": ("refused", "refused to undo", "yellow"),
    "attempt_unknown": ("outcome unknown", "outcome of undoing unknown", "yellow"),
    "attempt_unresolved": ("outcome stays unknown", "outcome of undoing stays unknown", "yellow"),
    "attempt_pending": ("accepted, the outcome comes later", "accepted, the outcome comes later", ""),
    "attempt_held": ("put off, for want of room", "undoing put off, for want of room", "dim"),
    "nothing_to_undo": ("", "there was nothing to undo", ""),
    "input_invalid": ("the input could not be computed", "the input could not be computed", "red"),
    "outcome_late": ("an answer came too late to matter", "an answer came too late to matter", "dim"),
    "step_skipped": ("skipped", "", "dim"),
    "step_failed": ("failed without a call", "", "yellow"),
    "wait_started": ("waiting", "", "dim"),
    "block_opened": ("begins with what is in it", "", "dim"),
    "block_closed": ("done with what is in it", "", ""),
    "event_received": ("an event arrived", "", ""),
    "saga_failed": ("turning back", "", "yellow"),
    "saga_recalled": ("turning back after all, with the saga that it is a step of", "", "yellow"),
    "saga_completed": ("COMPLETED", "", STATUS_STYLES["COMPLETED"]),
    "saga_compensated": ("COMPENSATED", "", STATUS_STYLES["COMPENSATED"]),
    "saga_parked": ("NEEDS_ATTENTION", "", "bold red"),
    "saga_unparked": ("going on, for what held it up is gone", "", "yellow"),
    "undo_unparked": ("going on with the undo, for what held it up is gone", "", "yellow"),
    "operation_retried": ("a person has it tried again", "a person has the undo tried again", "magenta"),
    "operation_skipped": ("skipped by a person", "undoing skipped by a person", "magenta"),
    "found_done": ("a person found it done", "", "magenta"),
    "found_not_done": ("a person found that it was never done", "", "magenta"),
    "found_undone": ("", "a person found it undone", "magenta"),
    "saga_paused": ("paused by a person", "", "magenta"),
    "saga_resumed": ("going on again", "", "magenta"),
    "saga_abandoned": ("ABANDONED", "", "bold red"),
}
PARTICIPANTS: Final = {"reserve": "inventory", "charge": "payments", "ship": "shipping"}


def status_name(status: saga_pb2.SagaStatus.ValueType) -> str:
    return saga_pb2.SagaStatus.Name(status).removeprefix("SAGA_STATUS_")


@dataclass(slots=True)
class Story:
    """What is known of one saga so far."""

    saga: saga_pb2.Saga
    entries: list[saga_pb2.Entry] = field(default_factory=list)

    @property
    def status(self) -> str:
        return status_name(self.saga.status)

    def count(self, entry_type: str, step: str) -> int:
        return sum(entry.entry_type == entry_type and entry.step == step for entry in self.entries)


def has_ended(story: Story) -> bool:
    return story.status in ENDED


class Timeline:
    """Prints the entries of sagas as they are written, by asking for those behind the last one seen."""

    def __init__(self, console: Console, sagas: SagaServiceStub) -> None:
        self._console = console
        self._sagas = sagas

    def follow(self, story: Story, until: Callable[[Story], bool] = has_ended) -> None:
        """Tells the story on until it has come as far as `until` wants.

        Raises:
            DemoError: it has not after FOLLOW_SECONDS.
        """
        give_up_at = time.monotonic() + FOLLOW_SECONDS
        while True:
            self._read_on(story)
            if until(story):
                return
            if time.monotonic() > give_up_at:
                raise DemoError(
                    f"saga {story.saga.saga_id} is still {story.status} after {FOLLOW_SECONDS:.0f} s"
                )
            time.sleep(POLL_SECONDS)

    def _read_on(self, story: Story) -> None:
        seen = story.entries[-1].sequence if story.entries else 0
        request = GetSagaRequest(saga_id=story.saga.saga_id, include_log=True, log_after_sequence=seen)
        try:
            answer = self._sagas.GetSaga(request, timeout=5.0)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                return  # the coordinator is down, as one of the scenarios wants it; the next look will tell
            raise
        story.saga.CopyFrom(answer.saga)
        for entry in answer.log:
            story.entries.append(entry)
            self._console.print(line(entry, since=story.entries[0]))


def line(entry: saga_pb2.Entry, since: saga_pb2.Entry) -> Text:
    """`+  120 ms  charge   refused: FAILED_PRECONDITION: card declined`."""
    passed = entry.recorded_at.ToDatetime() - since.recorded_at.ToDatetime()
    milliseconds = round(passed.total_seconds() * 1000)
    is_action = entry.operation != saga_pb2.OPERATION_KIND_COMPENSATION
    for_action, for_compensation, style = WORDS.get(
        entry.entry_type, (entry.entry_type, entry.entry_type, "")
    )
    words = for_action if is_action else for_compensation
    said = words.format(participant=PARTICIPANTS.get(entry.step, "?"), attempt=entry.attempt)
    text = Text(f"   +{milliseconds:>6} ms  {entry.step or 'saga':<8} ")
    text.append(said, style)
    text.append(_why(MessageToDict(entry.body)))
    return text


def _why(body: dict[str, Any]) -> str:
    cause = body.get("cause") or {}
    # gRPC puts every address that it tried behind the first semicolon.
    message = (cause.get("message") or "").partition(";")[0]
    why = ": ".join(filter(None, [cause.get("code"), message]))
    if len(why) > CAUSE_CHARACTERS:
        why = why[:CAUSE_CHARACTERS] + "..."
    told = f": {why}" if why else ""
    if "retry_delay_seconds" in body:
        milliseconds = round(body["retry_delay_seconds"] * 1000)
        told += f"; again in {milliseconds} ms" if milliseconds else "; again at once"
    return told
