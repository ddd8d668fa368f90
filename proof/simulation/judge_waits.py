"""Waits: nothing ends before its time or without its reason, and an event counts once, for whom it should (P1, P9, P10, P12)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from proof.plan import Instance
from proof.simulation.evidence import ACTION, FINAL, Evidence, Record
from proof.simulation.history import Approval, History, Publication
from proof.simulation.judge_log import CLOCK_BEHIND_SECONDS, TOLERANCE_SECONDS, committed_before
from proof.violation import Violation
from saga_coordinator.saga.machine.entries import AttemptRefused, AttemptSucceeded, EventReceived, WaitStarted
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS

PATIENCE_SECONDS = 30.0
"""When everything works, an event that was kept reaches a saga that waits for it within this."""
_NEVER = float("inf")


def judge_waits(evidence: Evidence) -> None:
    """Of one saga: its waits, the events it received and the people who decided."""
    for each in evidence.plan.instances.values():
        if each.kind in ("delay", "until", "await_event", "approval"):
            _judge_wait(evidence, each)
    _judge_received(evidence)
    for signal in evidence.history.signals.get(evidence.saga_id, ()):
        is_received = any(event.event_id == signal.event_id for event in _received(evidence))
        if signal.answer is not None and not is_received:
            evidence.broken("P1", f"the signal {signal.event_id} was taken and lost")
        if signal.is_refused and not _has_ended(evidence, signal.answered_at):
            evidence.broken("P1", f"the signal {signal.event_id} was refused without reason")
    for approval in evidence.history.approvals.get(evidence.saga_id, ()):
        _judge_approval(evidence, approval)


def _received(evidence: Evidence) -> Iterator[EventReceived]:
    for record in evidence.log:
        if isinstance(record.entry, EventReceived):
            yield record.entry


def _has_ended(evidence: Evidence, by: float) -> bool:
    return any(record.at <= by and record.row.type in FINAL for record in evidence.log)


def _judge_wait(evidence: Evidence, each: Instance) -> None:
    started = evidence.records(each.key, ACTION, "wait_started")
    ended = evidence.records(each.key, ACTION, "attempt_succeeded", "attempt_refused")
    if not started:
        if ended:
            evidence.broken("P12", f"{each.key} ended without having waited")
        return
    if len(started) > 1 or len(ended) > 1:
        evidence.broken("P9", f"{each.key} waited {len(started)} times and ended {len(ended)} times")
        return
    wait = started[0].entry
    assert isinstance(wait, WaitStarted)
    _judge_due(evidence, each, started[0], wait)
    for record in ended:
        if not _is_reasonable(evidence, each, wait, record):
            evidence.broken(
                "P12", f"entry {record.sequence} ends {each.key} without a reason: {record.entry}"
            )


def _judge_due(evidence: Evidence, each: Instance, record: Record, wait: WaitStarted) -> None:
    asked = each.spec[each.kind]
    if each.kind == "until":
        if wait.until != evidence.plan.given["at"]:
            evidence.broken("P10", f"{each.key} waits until {wait.until}")
        return
    if each.kind == "await_event":
        correlation = evidence.plan.given["order"] if "correlation" in asked else None
        if (wait.event, wait.correlation) != (asked["event"], correlation):
            evidence.broken("P12", f"{each.key} waits for {wait.event} of {wait.correlation}")
    text = asked if each.kind == "delay" else asked.get("timeout")
    if text is None:
        if wait.until is not None:
            evidence.broken("P10", f"{each.key} waits until {wait.until}, and was to wait for ever")
        return
    seconds = float(text[:-1])
    earliest = committed_before(evidence, record) + seconds - CLOCK_BEHIND_SECONDS
    latest = record.row.recorded_at + seconds + TOLERANCE_SECONDS
    if wait.until is None or not earliest <= wait.until <= latest:
        evidence.broken("P10", f"{each.key} waits until {wait.until}, not {earliest} to {latest}")


def _is_reasonable(evidence: Evidence, each: Instance, wait: WaitStarted, record: Record) -> bool:
    is_due = wait.until is not None and record.row.recorded_at + TOLERANCE_SECONDS >= wait.until
    goes_on = each.kind in ("delay", "until") or each.spec[each.kind].get("on_timeout") == "continue"
    match record.entry:
        case AttemptSucceeded(event_id=str() as event_id, output=output):
            return each.kind == "await_event" and any(
                event.event_id == event_id
                and event.name == wait.event
                and event.correlation in ("", wait.correlation)
                and event.payload == output
                for event in _received(evidence)
            )
        case AttemptSucceeded(output=None):
            return is_due and goes_on
        case AttemptSucceeded(output=output) if each.kind == "approval":
            return output["approved"] and _was_decided(
                evidence, each, output["decided_by"], record.at, is_yes=True
            )
        case AttemptRefused(cause=cause) if cause.code == "REJECTED":
            return _was_decided(evidence, each, cause.requested_by, record.at, is_yes=False)
        case AttemptRefused(cause=cause):
            expected = {"await_event": "EVENT_TIMEOUT", "approval": "APPROVAL_TIMEOUT"}
            return cause.code == expected.get(each.kind) and is_due and not goes_on
        case _:
            return False


def _was_decided(evidence: Evidence, each: Instance, by: str, before: float, *, is_yes: bool) -> bool:
    approvers = each.spec["approval"].get("approvers")
    return (not approvers or by in approvers) and any(
        (said.step, said.decided_by, said.is_approved) == (each.key, by, is_yes) and said.asked_at <= before
        for said in evidence.history.approvals.get(evidence.saga_id, ())
    )


def _judge_approval(evidence: Evidence, said: Approval) -> None:
    each = evidence.plan.instances[said.step]
    ended = evidence.records(said.step, ACTION, "attempt_succeeded", "attempt_refused")
    if said.answer is not None:
        kind = AttemptSucceeded if said.is_approved else AttemptRefused
        if not any(isinstance(record.entry, kind) for record in ended):
            evidence.broken("P1", f"a decision on {said.step} was taken and lost")
    elif said.is_refused:
        approvers = each.spec["approval"].get("approvers")
        started = evidence.records(said.step, ACTION, "wait_started")
        was_waiting = (
            started
            and started[0].at < said.asked_at
            and all(record.at > said.answered_at for record in ended)
            and not any(
                record.row.type in ("saga_failed", *FINAL) and record.at <= said.answered_at
                for record in evidence.log
            )
        )
        if was_waiting and (not approvers or said.decided_by in approvers):
            evidence.broken("P1", f"a decision on {said.step} was refused without reason")


def _judge_received(evidence: Evidence) -> None:
    counted = Counter(event.event_id for event in _received(evidence))
    for event_id, times in counted.items():
        if times > 1:
            evidence.broken("P9", f"event {event_id} counted {times} times")
    taken = Counter(
        record.entry.event_id
        for record in evidence.log
        if isinstance(record.entry, AttemptSucceeded) and record.entry.event_id is not None
    )
    for event_id, times in taken.items():
        if times > 1:
            evidence.broken("P9", f"event {event_id} ended {times} waits")
    for event in _received(evidence):
        said = (event.name, event.correlation, event.payload)
        published = evidence.history.published.get(event.event_id)
        is_told = published is not None and published.content == said
        if not is_told and not any(
            (signal.event_id, *signal.content) == (event.event_id, *said)
            for signal in evidence.history.signals.get(evidence.saga_id, ())
        ):
            evidence.broken("P12", f"event {event.event_id} was received as nobody sent it: {said}")


# Events that were published: for all sagas together.


class _Wait(NamedTuple):
    """A step's, for a published event that came at `since` at the earliest."""

    evidence: Evidence
    began_at: float
    ended_at: float
    since: float


def judge_published(
    history: History, evidences: Mapping[str, Evidence], calm_at: float
) -> Iterator[Violation]:
    """Who was to get an event got it, and nobody else."""
    received: dict[str, dict[str, float]] = {}
    waits: dict[tuple[str, str], list[_Wait]] = {}
    for evidence in evidences.values():
        for record in evidence.log:
            match record.entry:
                case EventReceived(event_id=event_id):
                    received.setdefault(event_id, {})[evidence.saga_id] = record.at
                case WaitStarted(event=str() as name, correlation=str() as correlation):
                    wait = _Wait(
                        evidence, record.at, _wait_ended_at(evidence, record), _looks_since(evidence, record)
                    )
                    waits.setdefault((name, correlation), []).append(wait)
                case _:
                    pass
    for publication in history.published.values():
        recipients = received.get(publication.event_id, {})
        waiting = waits.get(publication.content[:2], [])
        for saga_id, what in _faults(publication, recipients, waiting, calm_at):
            yield Violation(
                "P9" if "counted" in what else "P1", saga_id, f"event {publication.event_id} {what}"
            )


def _wait_ended_at(evidence: Evidence, started: Record) -> float:
    """When it ceased to wait: its end, or the saga's turn."""
    ends = [
        record.at
        for record in evidence.log
        if record.sequence > started.sequence
        and (
            record.row.type in ("saga_failed", *FINAL)
            or (
                record.row.step == started.row.step
                and record.row.type in ("attempt_succeeded", "attempt_refused")
            )
        )
    ]
    return min(ends, default=_NEVER)


def _looks_since(evidence: Evidence, started: Record) -> float:
    asked = evidence.plan.instances[started.row.step or ""].spec["await_event"]
    return evidence.log[0].at - float(asked.get("look_back", "0s")[:-1])


def _faults(
    publication: Publication,
    recipients: Mapping[str, float],
    waiting: list[_Wait],
    calm_at: float,
) -> Iterator[tuple[str, str]]:
    answered = [asking for asking in publication.askings if asking.sagas is not None]
    if not answered:
        return
    first, last = answered[0], max(asking.answered_at for asking in answered)
    asked_first = publication.askings[0].asked_at
    keep_seconds = EVENT_KEPT_SECONDS if publication.keep_seconds is None else publication.keep_seconds
    for evidence, began_at, ended_at, since in waiting:
        if began_at < asked_first and ended_at > first.answered_at and evidence.saga_id not in recipients:
            yield evidence.saga_id, "was published while this saga waited, and was not told to it"
        waited_in_calm = ended_at - max(began_at, first.answered_at, calm_at)
        is_for_it = since < asked_first and began_at < asked_first + keep_seconds
        if not recipients and is_for_it and waited_in_calm > PATIENCE_SECONDS:
            yield evidence.saga_id, "was kept, and was not given to this saga"
    if sum(asking.sagas or 0 for asking in answered) > len(recipients):
        yield (
            "",
            f"counted for {[asking.sagas for asking in answered]} sagas, but {sorted(recipients)} have it",
        )
    if any(asking.sagas is None and not asking.is_over for asking in publication.askings):
        return
    began: dict[str, float] = {}
    came_since: dict[str, float] = {}
    for wait in waiting:
        saga_id = wait.evidence.saga_id
        began[saga_id] = min(wait.began_at, began.get(saga_id, _NEVER))
        came_since[saga_id] = min(wait.since, came_since.get(saga_id, _NEVER))
    late = [saga_id for saga_id in recipients if began.get(saga_id, _NEVER) > last]
    if late and len(recipients) > 1:
        yield late[0], f"was kept and counted for {sorted(recipients)}"
    for saga_id in recipients:
        by = first.answered_at
        if by < began.get(saga_id, -_NEVER) and (
            came_since[saga_id] > by or began[saga_id] > by + keep_seconds
        ):
            yield saga_id, "counted although it was not kept for this saga"
