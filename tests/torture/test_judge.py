"""The judge of the books finds nothing wrong with honest ones, and everything that is tampered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proof.torture.evidence import Call, Effect, Entry, Evidence, Row
from proof.torture.judge import judge
from proof.torture.load import Wish
from proof.torture.replay import replay

DONE, UNDONE, PARKED = "saga-done", "saga-undone", "saga-parked"
STEPS = ("take", "pay", "book")
BEFORE = {"straight": {name: frozenset(STEPS[:index]) for index, name in enumerate(STEPS)}}
COORDINATOR = "coordinator-1"


class Books:
    """Writes down what honest participants and an honest coordinator would have."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rows: dict[str, Row] = {}
        self.logs: dict[str, list[Entry]] = {}
        self.calls: dict[str, list[Call]] = {}
        self.effects: dict[str, list[Effect]] = {}
        self.wishes: list[Wish] = []

    def write(
        self, saga_id: str, kind: str, step: str | None = None, operation: str | None = None, **body: Any
    ) -> None:
        self.now += 0.01
        log = self.logs.setdefault(saga_id, [])
        attempt = 1 if step else 0
        log.append(Entry(len(log) + 1, kind, step, operation, attempt, body, self.now, COORDINATOR))

    def call(self, saga_id: str, step: str, operation: str, answer: str) -> None:
        """One attempt: its intent, the call, what it does, and its outcome in the log."""
        self.write(saga_id, "attempt_started", step, operation)
        self.now += 0.01
        key, action_key = f"{saga_id}/{step}/{operation}", f"{saga_id}/{step}/action"
        is_action = operation == "action"
        undone = None if is_action else action_key
        times: dict[str, Any] = {
            "arrived_at": self.now,
            "arrived_wall": self.now,
            "ended_at": self.now + 0.001,
        }
        call = Call(
            "stock", key, key, undone, saga_id, step, operation, 1, undone, trouble="", answer=answer, **times
        )
        self.calls.setdefault(saga_id, []).append(call)
        effects = self.effects.setdefault(saga_id, [])
        if answer == "OK" and is_action:
            effects.append(Effect("stock", key, saga_id, step, self.now, None, None))
        elif answer == "OK":
            self.effects[saga_id] = [
                replace(effect, undone_by=key, undone_at=self.now) if effect.step == step else effect
                for effect in effects
            ]
        cause = {"code": answer, "message": "no"}
        if answer == "OK":
            self.write(saga_id, "attempt_succeeded", step, operation)
        else:
            self.write(saga_id, "attempt_refused", step, operation, cause=cause)

    def hold(self, saga_id: str, step: str, operation: str) -> None:
        """An attempt that found no room: nobody was called, and the next attempt has its number."""
        self.write(saga_id, "attempt_started", step, operation)
        cause = {"code": "CIRCUIT_OPEN", "message": "stock is given a rest"}
        pause = {"retry_delay_seconds": 0.1, "retry_at": self.now + 0.1}
        self.write(saga_id, "attempt_held", step, operation, cause=cause, is_given_back=True, **pause)

    def settle(
        self, saga_id: str, status: str, failure: str | None = None, remaining: tuple[str, ...] = ()
    ) -> None:
        has_ended = status != "NEEDS_ATTENTION"
        self.rows[saga_id] = Row(
            saga_id, f"key of {saga_id}", "straight", status, remaining, None, False, has_ended, failure
        )
        wish = Wish(f"key of {saga_id}", "straight", 1, {saga_id}, 1, True, False, {status})
        self.wishes.append(wish)

    def start(self, saga_id: str) -> None:
        self.write(saga_id, "saga_started", definition="straight", version=1)

    def evidence(self) -> Evidence:
        return Evidence(self.wishes, BEFORE, self.rows, self.logs, self.calls, self.effects)


def honest() -> Books:
    books = Books()
    cause = {"code": "FAILED_PRECONDITION", "message": "no", "step": "book"}
    books.start(DONE)
    for step in STEPS:
        books.hold(DONE, step, "action")
        books.call(DONE, step, "action", "OK")
    books.write(DONE, "saga_completed")
    books.settle(DONE, "COMPLETED")
    for saga_id, answer in ((UNDONE, "OK"), (PARKED, "FAILED_PRECONDITION")):
        books.start(saga_id)
        books.call(saga_id, "take", "action", "OK")
        books.call(saga_id, "pay", "action", "OK")
        books.call(saga_id, "book", "action", "FAILED_PRECONDITION")
        books.write(saga_id, "saga_failed", cause=cause)
        books.call(saga_id, "pay", "compensation", answer)
    books.call(UNDONE, "take", "compensation", "OK")
    books.write(UNDONE, "saga_compensated")
    books.settle(UNDONE, "COMPENSATED", "FAILED_PRECONDITION")
    books.write(PARKED, "saga_parked", cause=cause, remaining=["take", "pay"])
    books.settle(PARKED, "NEEDS_ATTENTION", "FAILED_PRECONDITION", ("take", "pay"))
    return books


def test_honest_books_are_in_order() -> None:
    evidence = honest().evidence()

    assert [str(each) for each in (*judge(evidence), *replay(evidence))] == []


def _row(saga_id: str, **changes: Any) -> Callable[[Books], None]:
    def tamper(books: Books) -> None:
        books.rows[saga_id] = replace(books.rows[saga_id], **changes)

    return tamper


def _call(saga_id: str, index: int, **changes: Any) -> Callable[[Books], None]:
    def tamper(books: Books) -> None:
        books.calls[saga_id][index] = replace(books.calls[saga_id][index], **changes)

    return tamper


def _effect(saga_id: str, index: int, **changes: Any) -> Callable[[Books], None]:
    def tamper(books: Books) -> None:
        books.effects[saga_id][index] = replace(books.effects[saga_id][index], **changes)

    return tamper


def _wish(index: int, **changes: Any) -> Callable[[Books], None]:
    def tamper(books: Books) -> None:
        books.wishes[index] = replace(books.wishes[index], **changes)

    return tamper


def _forget_saga(books: Books) -> None:
    del books.rows[DONE]


def _twin(books: Books) -> None:
    books.rows["saga-twin"] = replace(books.rows[DONE], saga_id="saga-twin")
    books.logs["saga-twin"], books.effects["saga-twin"] = books.logs[DONE], books.effects[DONE]


def _apply_twice(books: Books) -> None:
    books.effects[DONE].append(books.effects[DONE][0])


def _forget_effect(books: Books) -> None:
    books.effects[DONE].pop()


def _forget_entry(books: Books) -> None:
    del books.logs[DONE][1]


def _compensate_in_flight(books: Books) -> None:
    """The action of `pay` was another coordinator's, and may have been in flight for a second more."""
    log = books.logs[UNDONE]
    place = next(
        at for at, entry in enumerate(log) if entry.type == "attempt_succeeded" and entry.step == "pay"
    )
    body = {**log[place].body, "settles_at": log[place].recorded_at + 1.0}
    log[place] = replace(log[place], type="attempt_unresolved", body=body)


def _say_held(books: Books) -> None:
    """A call was made, and the log says that it was not."""
    log = books.logs[DONE]
    place = next(at for at, entry in enumerate(log) if entry.type == "attempt_succeeded")
    log[place] = replace(log[place], type="attempt_held")


def _swap_compensations(books: Books) -> None:
    """`take` was undone before `pay` was."""
    calls = books.calls[UNDONE]
    pay, take = calls[-2], calls[-1]
    calls[-2] = replace(pay, arrived_at=take.arrived_at + 1, ended_at=take.arrived_at + 2)


TAMPERED: tuple[tuple[str, str, Callable[[Books], None]], ...] = (
    ("an accepted saga is missing", "P1", _forget_saga),
    ("a start key has two sagas", "P9", _twin),
    ("a start was answered with two sagas", "P9", _wish(0, saga_ids={DONE, UNDONE})),
    ("a start created twice", "P9", _wish(0, created=2)),
    ("an accepted cancel had no effect", "P2", _wish(0, was_cancelled=True)),
    ("a client was told another end", "P2", _wish(1, settled_as={"COMPLETED"})),
    ("a saga has not settled", "P1", _row(DONE, status="RUNNING")),
    ("a settled saga is owned", "P1", _row(DONE, owner="the dead")),
    ("the row says more than the log", "P7", _row(PARKED, status="COMPLETED")),
    ("an effect that stands is not listed", "P2", _row(PARKED, remaining=("take",))),
    ("compensated, and yet it stands", "P2", _effect(UNDONE, 0, undone_by=None, undone_at=None)),
    ("completed, and yet undone", "P2", _effect(DONE, 0, undone_by=f"{DONE}/take/compensation")),
    ("completed without an effect", "P2", _forget_effect),
    ("an effect applied twice", "P5", _apply_twice),
    ("a key with the attempt in it", "P5", _call(DONE, 0, key=f"{DONE}/take/action/1")),
    ("another key beside the message", "P5", _call(DONE, 0, header_key="another")),
    ("the wrong action is undone", "P5", _call(UNDONE, 3, action_key=f"{UNDONE}/take/action")),
    ("a call without an intent", "P6", _call(DONE, 0, attempt=7)),
    ("a call before its intent", "P6", _call(DONE, 0, arrived_wall=1.0)),
    ("a call that was held", "P6", _say_held),
    ("a gap in the log", "P8", _forget_entry),
    ("forward out of order", "P3", _effect(DONE, 2, applied_at=1.0)),
    ("backward out of order", "P3", _swap_compensations),
    ("compensated in flight", "P4", _compensate_in_flight),
)


@pytest.mark.parametrize(
    ("promise", "tamper"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED]
)
def test_tampered_books_are_caught(promise: str, tamper: Callable[[Books], None]) -> None:
    books = honest()
    tamper(books)

    evidence = books.evidence()
    found = {violation.promise for violation in judge(evidence)}
    assert promise in found or promise in {violation.promise for violation in replay(evidence)}


def test_a_log_that_cannot_be_folded_is_caught() -> None:
    books = honest()
    books.logs[DONE].append(replace(books.logs[DONE][-1], sequence=len(books.logs[DONE]) + 1))

    assert [violation.promise for violation in replay(books.evidence())] == ["P7"]
