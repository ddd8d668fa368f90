"""The tables: what has a row leads where the row says, what has none raises, and every row is used by some story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, cast, get_args

import pytest

from proof.core.definitions import definition, step
from proof.core.story import ACTION, COMPENSATION, MAYBE, NO, Story, ok
from saga_coordinator.saga.machine.act_entries import (
    STEP_ACTS,
    FoundDone,
    FoundNotDone,
    FoundUndone,
    OperationRetried,
    SagaAbandoned,
    SagaPaused,
    SagaResumed,
)
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.decide import HANDLERS
from saga_coordinator.saga.machine.entries import (
    ENTRY_TYPES,
    AttemptHeld,
    AttemptPending,
    AttemptRefused,
    AttemptStarted,
    AttemptSucceeded,
    AttemptUnknown,
    AttemptUnresolved,
    BlockClosed,
    BlockOpened,
    Entry,
    EventReceived,
    InputInvalid,
    NothingToUndo,
    OutcomeLate,
    SagaAdopted,
    SagaCompensated,
    SagaCompleted,
    SagaEntry,
    SagaFailed,
    SagaParked,
    SagaRecalled,
    SagaStarted,
    SagaUnparked,
    StepEntry,
    StepFailed,
    StepSkipped,
    UndoUnparked,
    WaitStarted,
)
from saga_coordinator.saga.machine.inputs import Input, StartRequested
from saga_coordinator.saga.machine.state import SagaState, apply, fold
from saga_coordinator.saga.machine.step_state import StepState
from saga_coordinator.saga.machine.transitions import (
    OPERATION_ALLOWED,
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    SagaStatus,
    StepStatus,
)
from saga_coordinator.saga.words.errors import ImpossibleTransition
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause

CAUSE = Cause("UNAVAILABLE", "gone")
SAGA_ENTRIES: tuple[SagaEntry, ...] = (
    SagaStarted("order", 1),
    SagaAdopted("coordinator-1"),
    EventReceived("event-1", "paid"),
    SagaFailed(CAUSE),
    SagaRecalled(CAUSE),
    SagaCompleted(),
    SagaCompensated(),
    SagaParked(CAUSE, ("reserve",)),
    SagaUnparked(),
    UndoUnparked(),
    SagaPaused("act-1"),
    SagaResumed("act-1"),
    SagaAbandoned(("reserve",), "act-1"),
)
ACT = {"act_id": "act-1", "requested_by": "ana", "reason": "mended"}

UNREACHABLE_ROWS: set[tuple[Any, ...]] = {
    (StepStatus.RUNNING, ACTION, InputInvalid),
    (StepStatus.COMPENSATING, COMPENSATION, InputInvalid),
}
"""An input is computed from what no longer changes, so a later attempt cannot fail at it where the first did not.

They are kept for a coordinator of another version, whose expressions may mean something else: it must be able to say so.
"""

RARE_ROWS: set[tuple[Any, ...]] = {
    (StepStatus.PENDING, ACTION, StepFailed),
    (StepStatus.FAILED, COMPENSATION, InputInvalid),
    (StepStatus.SUCCEEDED, ACTION, OutcomeLate),
    (StepStatus.COMPENSATED, COMPENSATION, OutcomeLate),
    (StepStatus.FAILED, COMPENSATION, NothingToUndo),
}
"""Too rare to wait for: told below, and the last one in `test_decide.py`."""


ABOUT: Mapping[type[Entry], OperationKind] = {
    **dict.fromkeys((StepSkipped, StepFailed, WaitStarted, BlockOpened, BlockClosed), ACTION),
    **dict.fromkeys((FoundDone, FoundNotDone), ACTION),
    FoundUndone: COMPENSATION,
}
"""Entries that are about one operation only, so they do not name it."""

NEEDING_LEAVE = frozenset({AttemptStarted, InputInvalid, StepSkipped, WaitStarted, BlockOpened, BlockClosed})
"""Entries by which something begins, or goes on to what begins next."""


def step_entry(kind: type[StepEntry], operation: OperationKind) -> StepEntry:
    extra: dict[type[StepEntry], dict[str, Any]] = {
        AttemptStarted: {},
        AttemptSucceeded: {"output": {"id": 7}},
        AttemptRefused: {"cause": CAUSE},
        AttemptUnknown: {"cause": CAUSE, "retry_delay_seconds": 1.0, "retry_at": 5.0},
        AttemptUnresolved: {"cause": CAUSE},
        AttemptPending: {"pending_until": 9.0},
        NothingToUndo: {"cause": CAUSE},
        InputInvalid: {"cause": CAUSE},
        OutcomeLate: {"outcome": "SUCCEEDED"},
        AttemptHeld: {"cause": CAUSE, "retry_delay_seconds": 1.0, "retry_at": 5.0},
        StepSkipped: {},
        StepFailed: {"cause": CAUSE},
        WaitStarted: {"until": 9.0},
        BlockOpened: {"items": (1, 2)},
        BlockClosed: {"output": [1, 2]},
        OperationRetried: {"retry_at": 5.0, **ACT},
        **dict.fromkeys(STEP_ACTS[1:], ACT),
    }
    columns = ("reserve",) if kind in ABOUT else ("reserve", operation, 1)
    return cast("StepEntry", cast("Any", kind)(*columns, **extra[kind]))


def saga_in(status: SagaStatus, parked_from: SagaStatus | None = None, **steps: StepState) -> SagaState:
    return SagaState("saga", status, "order", 1, None, {}, None, parked_from=parked_from, steps=steps)


def test_samples_cover_every_type_of_entry() -> None:
    assert {type(entry) for entry in SAGA_ENTRIES} | set(get_args(StepEntry)) == set(ENTRY_TYPES)


@pytest.mark.parametrize(("status", "entry"), list(product(SagaStatus, SAGA_ENTRIES)))
def test_entry_about_the_saga_leads_where_its_row_says_or_is_impossible(
    status: SagaStatus, entry: SagaEntry
) -> None:
    row = SAGA_TRANSITIONS.get((status, type(entry)))
    if row is None:
        with pytest.raises(ImpossibleTransition, match="cannot follow"):
            apply("saga", saga_in(status), entry)
    else:
        parked_from = row if status is SagaStatus.NEEDS_ATTENTION else None
        assert apply("saga", saga_in(status, parked_from), entry).status is row


@pytest.mark.parametrize(
    ("parked_from", "entry"),
    [(SagaStatus.COMPENSATING, SagaUnparked()), (SagaStatus.RUNNING, UndoUnparked())],
)
def test_parked_saga_goes_on_only_the_way_that_it_went(parked_from: SagaStatus, entry: SagaEntry) -> None:
    with pytest.raises(ImpossibleTransition, match=f"it was parked while {parked_from}"):
        apply("saga", saga_in(SagaStatus.NEEDS_ATTENTION, parked_from), entry)


@pytest.mark.parametrize("status", [each for each in SagaStatus if each is not SagaStatus.RUNNING])
def test_action_that_failed_does_not_succeed_after_the_turn(status: SagaStatus) -> None:
    parked_from = SagaStatus.COMPENSATING if status is SagaStatus.NEEDS_ATTENTION else None
    before = saga_in(status, parked_from, reserve=StepState(status=StepStatus.FAILED, attempt=1))
    with pytest.raises(ImpossibleTransition, match="cannot follow"):
        apply("saga", before, step_entry(AttemptSucceeded, ACTION))


@pytest.mark.parametrize(
    ("status", "operation", "kind"),
    [
        row
        for row in product(StepStatus, OperationKind, get_args(StepEntry))
        if ABOUT.get(row[2], row[1]) is row[1]
    ],
)
def test_entry_about_a_step_leads_where_its_row_says_or_is_impossible(
    status: StepStatus, operation: OperationKind, kind: type[StepEntry]
) -> None:
    row = STEP_TRANSITIONS.get((status, operation, kind))
    entry = step_entry(kind, operation)
    for saga_status, present in product(SagaStatus, OperationKind):
        before = saga_in(saga_status, reserve=StepState(status=status, operation=present, attempt=1))
        is_allowed = (
            operation in OPERATION_ALLOWED.get(saga_status, ())
            if kind in NEEDING_LEAVE
            else operation is present
        )
        if (status, operation, kind) == (StepStatus.FAILED, ACTION, AttemptSucceeded):
            is_allowed &= saga_status is SagaStatus.RUNNING
        if row is None or not (is_allowed or kind in (OutcomeLate, FoundUndone)):
            with pytest.raises(ImpossibleTransition, match="cannot follow"):
                apply("saga", before, entry)
        else:
            after = apply("saga", before, entry)
            assert after.step("reserve").status is row
            assert after.status is saga_status, "an entry about a step leaves the saga where it is"


@pytest.mark.parametrize("kind", [kind for kind in ENTRY_TYPES if kind is not SagaStarted])
def test_log_begins_with_the_start(kind: type[Entry]) -> None:
    samples: list[Entry] = [*SAGA_ENTRIES, *(step_entry(each, ACTION) for each in get_args(StepEntry))]
    entry = next(each for each in samples if isinstance(each, kind))
    with pytest.raises(ImpossibleTransition, match="begins with saga_started"):
        fold("saga", [entry])


def test_empty_log_is_no_saga() -> None:
    with pytest.raises(ImpossibleTransition, match="empty log"):
        fold("saga", [])


def test_every_status_has_a_handler_for_every_input_but_the_start() -> None:
    inputs = set(get_args(Input)) - {StartRequested}
    assert set(HANDLERS) == set(product(SagaStatus, inputs))


def test_ends_have_no_way_out_but_the_recall_of_a_completed_child() -> None:
    ends = {SagaStatus.COMPLETED, SagaStatus.COMPENSATED, SagaStatus.ABANDONED}
    assert not ends & OPERATION_ALLOWED.keys()
    assert {row for row in SAGA_TRANSITIONS if row[0] in ends} == {(SagaStatus.COMPLETED, SagaRecalled)}


# The rare rows.


@pytest.mark.parametrize(
    "fields",
    [
        {"when": "input.gone > 1"},
        {"for_each": {"items": "input.gone", "steps": [step("inner")]}, "action": None, "late": True},
        {"until": "input.gone", "action": None, "late": True},
    ],
    ids=["condition", "items", "instant"],
)
def test_step_whose_expression_cannot_be_evaluated_fails(fields: dict[str, Any]) -> None:
    story = Story(definition(step("reserve"), step("charge", **fields)), payload={})
    story.ends("reserve", ok())
    assert story.recorded == ["attempt_succeeded", "step_failed", "saga_failed", "attempt_started"]
    assert story.calls == ["reserve compensation 1"]
    assert story.state.failure is not None
    assert (story.state.failure.code, story.state.failure.step) == ("EXPRESSION_INVALID", "charge")


def test_compensation_of_a_doubtful_step_whose_input_cannot_be_computed_parks() -> None:
    undo = {"participant": "p", "input": "${steps.reserve.output.gone}"}
    story = Story(
        definition(
            step("reserve"),
            step("charge", action={"participant": "p", "retry": {"max_attempts": 1}}, compensation=undo),
        )
    )
    story.ends("reserve", ok({}))
    story.ends("charge", MAYBE)
    assert story.recorded == ["attempt_unresolved", "saga_failed", "input_invalid", "saga_parked"]
    assert story.state.remaining == ("reserve", "charge")


@pytest.mark.parametrize("operation", OperationKind)
def test_refusal_reported_after_success_is_kept_and_moves_nothing(operation: OperationKind) -> None:
    story = Story(definition(step("reserve"), step("charge")))
    story.ends("reserve", ok({"id": 7}))
    if operation is COMPENSATION:
        story.ends("charge", NO)
        story.ends("reserve", ok())
        assert story.status is SagaStatus.COMPENSATED
    before = story.step("reserve")
    assert isinstance(story.reported("reserve", NO, operation).answer, NotApplied)
    assert story.recorded == ["outcome_late"]
    assert replace(story.step("reserve"), told=before.told) == before


@pytest.mark.parametrize("operation", OperationKind)
def test_input_that_another_version_cannot_compute_ends_the_operation(operation: OperationKind) -> None:
    story = Story(definition(step("reserve")), payload={})
    if operation is COMPENSATION:
        story.ends("reserve", ok())
        story = Story(definition(step("reserve"), step("charge")), payload={})
        story.ends("reserve", ok())
        story.ends("charge", NO)
    story.ends("reserve", MAYBE)
    story.definition = definition(
        step("reserve", **{str(operation): {"participant": "p", "input": "${input.gone}"}})
    )
    story.timer_fires()
    assert story.recorded[0] == "input_invalid"
    assert story.step("reserve").attempt == 1, "only attempts that were made are counted"
