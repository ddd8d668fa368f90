"""Sagas in flight survive an upgrade: what past versions have written is folded and gone on with by the present core.

The histories are recorded by tools/record_histories.py, once for each version, and never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proof.core.story import MAYBE
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT, Approval, Definition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.act_entries import SAGA_ACTS, STEP_ACTS
from saga_coordinator.saga.machine.ahead import is_over
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Invoke, LookForRoom, SetTimer
from saga_coordinator.saga.machine.entries import ENTRY_TYPES, Entry, SagaUnparked, UndoUnparked
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    AttemptEnded,
    EventArrived,
    Input,
    OwnershipGained,
    RoomFound,
    TimerFired,
)
from saga_coordinator.saga.machine.state import SagaState, fold
from saga_coordinator.saga.machine.stored_entry import StoredEntry, decode, entry_type
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus, StepStatus
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Outcome, Refused, Succeeded
from tools.record_histories import HISTORIES, main

SAGA = "01890a5d-ac96-774b-bcce-b302099a8057"
NO = Refused(Cause("FAILED_PRECONDITION", "no"))
INPUTS_MAX = 500
NOT_RECORDED_YET = {SagaUnparked, UndoUnparked, *STEP_ACTS, *SAGA_ACTS}
"""Entries that no released version writes."""

PATHS = sorted(HISTORIES.glob("*/*.json"))
each_history = pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")


def read(path: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return history


def stored(history: dict[str, Any]) -> list[StoredEntry]:
    return [StoredEntry(**entry) for entry in history["log"]]


def entries(history: dict[str, Any]) -> list[Entry]:
    return [decode(entry) for entry in stored(history)]


@each_history
def test_p7_a_recorded_log_means_what_it_meant(path: Path) -> None:
    history = read(path)
    log = entries(history)
    for moment in history["moments"]:
        state = fold(SAGA, log[: moment["entries"]])
        assert state.status == moment["status"]
        assert list(state.remaining) == moment["remaining"]
        assert (state.failure.code if state.failure else None) == moment["failure"]
        assert {
            name: {
                "status": step.status,
                "effect": step.effect.name,
                "operation": step.operation,
                "attempt": step.attempt,
                "output": step.output,
            }
            for name, step in state.steps.items()
        } == moment["steps"]


def everything_works(_: Invoke) -> Outcome:
    return Succeeded({"id": "given"})


def actions_are_refused(call: Invoke) -> Outcome:
    return NO if call.operation is OperationKind.ACTION else Succeeded()


def nobody_knows(call: Invoke) -> Outcome:
    """But of a child the coordinators know themselves what became of it."""
    return actions_are_refused(call) if call.participant == CHILD_PARTICIPANT else MAYBE


@pytest.mark.parametrize("answers", [everything_works, actions_are_refused, nobody_knows])
@pytest.mark.parametrize("previous_owner", [None, "coordinator-0"], ids=["awake", "orphaned"])
@each_history
def test_p1_a_recorded_saga_goes_on_to_an_end(path: Path, previous_owner: str | None, answers: Any) -> None:
    history = read(path)
    definition = parse_definition(history["definition"])
    for moment in history["moments"]:
        if moment["status"] in SETTLED:
            continue
        log = entries(history)[: moment["entries"]]
        is_in_flight = any(step.is_in_flight for step in fold(SAGA, log).steps.values())
        if is_in_flight and previous_owner is None:
            continue  # a saga is let go only when nothing of it is in flight
        end = carry_on(definition, log, moment["at"], OwnershipGained(previous_owner), answers)
        assert end.status in SETTLED
        assert fold(SAGA, log) == end
        if end.status is not SagaStatus.NEEDS_ATTENTION:
            assert not end.remaining
        if end.status is SagaStatus.COMPLETED:
            assert all(is_over(step, end.step(step.name)) for step in definition.steps)


def what_is_waited_for(definition: Definition, state: SagaState) -> Input:
    """What somebody does where a saga waits for it without a limit."""
    waiting = next((key for key, step in state.steps.items() if step.wait is not None and step.is_open), None)
    assert waiting is not None, "it would wait for ever"
    action = definition.step(waiting).action
    if isinstance(action, Approval):
        return ApprovalDecided(waiting, is_approved=True, decided_by=next(iter(action.approvers), "anybody"))
    wait = state.steps[waiting].wait
    assert wait is not None
    assert wait.event is not None
    return EventArrived("given", wait.event, wait.correlation or "", {"id": "given"})


def carry_on(definition: Any, log: list[Entry], now: float, first: Input, answers: Any) -> SagaState:
    """The end of a saga, as its next coordinator makes it; `log` grows."""
    state = fold(SAGA, log)
    happens: list[Input] = [first]
    timer: float | None = None
    for _ in range(INPUTS_MAX):
        if happens:
            happened = happens.pop(0)
        elif timer is not None:
            now, happened = max(now, timer), TimerFired()
        else:
            happened = what_is_waited_for(definition, state)
        decision = decide(definition, state, happened, now, 0.5)
        log += decision.entries
        state = decision.state
        timer = next((effect.due_at for effect in decision.effects if isinstance(effect, SetTimer)), None)
        happens += [
            AttemptEnded(effect.step, effect.operation, effect.attempt, answers(effect))
            for effect in decision.effects
            if isinstance(effect, Invoke)
        ]
        happens += [
            RoomFound(effect.step, effect.operation)
            for effect in decision.effects
            if isinstance(effect, LookForRoom)
        ]
        if state.status in SETTLED and not happens:
            return state
    raise AssertionError(f"no end after {INPUTS_MAX} inputs")


def test_the_histories_hold_every_type_of_entry_and_every_status() -> None:
    recorded = [read(path) for path in PATHS]
    assert {entry["type"] for history in recorded for entry in history["log"]} == {
        entry_type(kind) for kind in ENTRY_TYPES if kind not in NOT_RECORDED_YET
    }
    moments = [moment for history in recorded for moment in history["moments"]]
    assert {moment["status"] for moment in moments} == set(SagaStatus) - {SagaStatus.ABANDONED}
    statuses = {step["status"] for moment in moments for step in moment["steps"].values()}
    assert statuses == set(StepStatus) - {StepStatus.PENDING}


@each_history
def test_what_a_later_version_adds_to_an_entry_is_passed_over(path: Path) -> None:
    history = read(path)
    before = fold(SAGA, entries(history))
    for entry in history["log"]:
        entry["body"]["added_later"] = {"deep": [1]}
        if isinstance(entry["body"].get("cause"), dict):
            entry["body"]["cause"]["added_later"] = True
    assert fold(SAGA, entries(history)) == before


def test_what_was_recorded_is_never_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in PATHS}
    assert main() == 1
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in PATHS} == before
