"""What filters say, and that every fault of a filter is told with its position."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from saga_coordinator.filters.conditions import (
    All,
    AnyOf,
    BeginsWith,
    Compared,
    Condition,
    FromNow,
    Not,
    OneOf,
    Order,
    Present,
    Remains,
)
from saga_coordinator.filters.fields import FIELDS, REMAINING, STARTED_AT, Label
from saga_coordinator.filters.parsing import COMPARISONS_MAX, FILTER_CHARACTERS_MAX, parse_filter
from saga_coordinator.saga.words.errors import Fault

HOUR = timedelta(hours=1)
ID = "00000000-0000-7000-8000-00000000000a"


def faults_of(text: str) -> list[str]:
    found: list[Fault] = []
    assert parse_filter(text, "filter", found) is None
    return [f"{each.path}: {each.told}" for each in found]


def parsed(text: str) -> Condition | None:
    found: list[Fault] = []
    condition = parse_filter(text, "filter", found)
    assert not found
    return condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("  \n", None),
        ('status == "RUNNING"', OneOf(FIELDS["status"], ("RUNNING",))),
        ('"RUNNING" != status', Not(OneOf(FIELDS["status"], ("RUNNING",)))),
        ('status in ["RUNNING", "ABANDONED", "RUNNING"]', OneOf(FIELDS["status"], ("RUNNING", "ABANDONED"))),
        ("2 <= version", Compared(FIELDS["version"], Order.GREATER_OR_EQUAL, 2)),
        ("version == -1", OneOf(FIELDS["version"], (-1,))),
        ('labels["a b"] == "x"', OneOf(Label("a b"), ("x",))),
        ('labels.tenant != "x"', Not(OneOf(Label("tenant"), ("x",)))),
        ("has(labels.tenant)", Present(Label("tenant"))),
        ('"a b" in labels', Present(Label("a b"))),
        ("has(failure.code)", Present(FIELDS["failure.code"])),
        ("ended_at == null", Not(Present(FIELDS["ended_at"]))),
        ("null != ended_at", Not(Not(Present(FIELDS["ended_at"])))),
        ('start_key.startsWith("order-")', BeginsWith(FIELDS["start_key"], "order-")),
        (f'parent == "{ID}"', OneOf(Label("parent_saga_id"), (ID,))),
        (f'owner == "{ID.upper()}"', OneOf(FIELDS["owner"], (ID,))),
        ("size(remaining) > 0", Compared(REMAINING, Order.GREATER, 0)),
        ('"reserve" in remaining', Remains("reserve")),
        ('age > duration("1h")', Compared(STARTED_AT, Order.LESS, FromNow(-HOUR))),
        ('duration("60m") >= age', Compared(STARTED_AT, Order.GREATER_OR_EQUAL, FromNow(-HOUR))),
        ('deadline_at < now + duration("1h")', Compared(FIELDS["deadline_at"], Order.LESS, FromNow(HOUR))),
        ("started_at < now", Compared(STARTED_AT, Order.LESS, FromNow(timedelta()))),
        (
            'started_at >= timestamp("2026-01-31T10:00:00.5+01:00")',
            Compared(STARTED_AT, Order.GREATER_OR_EQUAL, datetime(2026, 1, 31, 9, 0, 0, 500_000, UTC)),
        ),
        (
            "version == 1 && (version == 2 || !(version == 3)) && has(labels.a)",
            All(
                (
                    OneOf(FIELDS["version"], (1,)),
                    AnyOf((OneOf(FIELDS["version"], (2,)), Not(OneOf(FIELDS["version"], (3,))))),
                    Present(Label("a")),
                )
            ),
        ),
    ],
)
def test_a_filter_says_its_conditions(text: str, condition: Condition | None) -> None:
    assert parsed(text) == condition


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('statu == "RUNNING"', "character 1: there is no field `statu`; did you mean `status`?"),
        ('status == "RUNING"', 'character 11: "RUNING" is no status; did you mean `RUNNING`?'),
        ('status == "running"', 'character 11: "running" is no status; did you mean `RUNNING`?'),
        ('status in ["RUNNING", "X"]', 'character 23: "X" is no status'),
        ("status == RUNNING", 'character 11: a status is a text: write "RUNNING"'),
        ("status == 1", "character 11: `status` is a status, so compare it with one"),
        ('status > "RUNNING"', "character 8: `status` is a status, which is compared with ==, != and in"),
        ('version == "2"', "character 12: `version` is a whole number, so compare it with one"),
        ("version == 1.5", "character 12: `version` is a whole number"),
        ("version == true", "character 12: `version` is a whole number"),
        ("version == 18446744073709551615u", "character 12: is too large a number"),
        ("version == null", "character 12: every saga has `version`"),
        ("version > null", "character 9: null is compared with == and != only"),
        ('start_key == "a\\000"', "character 14: has a NUL character"),
        ('owner == "me"', "character 10: `owner` is a UUID"),
        ('owner.startsWith("0")', "character 17: `startsWith` is for texts, and `owner` is an identity"),
        ("start_key.startsWith(1)", "character 22: the beginning is a text in quotes"),
        ("started_at < 5", "character 14: `started_at` is a time: compare it with `timestamp("),
        ("started_at in [now]", "character 12: `started_at` is a time, which is compared with <"),
        (
            'started_at < timestamp("2026-01-31")',
            'character 24: `timestamp("2026-01-31")` is no time with an offset',
        ),
        ('started_at < timestamp("2026-02-30T00:00:00Z")', "character 24: `timestamp("),
        ("age > 5", "character 7: must be a duration"),
        ('age > duration("1d")', 'character 16: `duration("1d")` is no duration'),
        ('age > duration("1ns")', 'character 16: `duration("1ns")` is finer than a microsecond'),
        ('age > duration("99999999h")', 'character 16: `duration("99999999h")` is longer than a hundred years'),
        ("has(labels.k) && has(status.x)", "character 22: `status` has no parts"),
        ('failure.kode == "A"', "character 9: `failure` has no `kode`, but `failure.code` and `failure.step` are"),
        ('failure == "A"', "character 1: `failure` is no field itself"),
        ('labels == "A"', "character 1: labels are compared by their keys"),
        ("remaining > 0", "character 1: write `size(remaining) > 0`"),
        ('size(labels) > 0', "character 5: is no field that sagas are found by"),
        ("started_at < ended_at", "character 12: compares two fields"),
        ("1 == 1", "character 3: compares two constants"),
        ("true", "character 1: is no condition"),
        ("status", "character 1: is no condition by itself"),
        ('status in "RUNNING"', "character 11: must be a list"),
        ("version in []", "character 12: is an empty list"),
        ("version + 1 == 2", "character 1: is no field that sagas are found by"),
        ('labels.exists(l, l == "a")', "character 1: macros such as `exists` are not for filters"),
        ('start_key.matches("a+")', "character 1: `matches` is not for filters"),
        ("version == 1 ? version == 2 : version == 3", "character 1: `? :` is not for filters"),
        ('version == 1 &&\n  vers == 2', "line 2: character 3: there is no field `vers`; did you mean `version`?"),
        ('labels["üñ😀"] == "x" && x == 1', "character 25: there is no field `x`"),
        ("status == ", "is not CEL from character 11 on"),
        ('status = "RUNNING"', "is not CEL from character 8 on"),
        ("\nstatus ==", "is not CEL from line 2, character 10 on"),
        ("(" * 40 + "status" + ")" * 40, "is nested too deeply"),
        (f"version in [{', '.join(['1'] * 250)}]", "has 254 names, operators and constants; 250 is the limit"),
        ("x" * (FILTER_CHARACTERS_MAX + 1), "has 4097 characters; 4096 is the limit"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_position(text: str, fault: str) -> None:
    (told,) = faults_of(text)
    assert told.startswith(f"filter: {fault}")


def test_all_faults_are_told_at_once() -> None:
    told = faults_of('(statu == "X" || version == "1") && !(foo == 1)')
    assert [each.partition("character ")[2].partition(":")[0] for each in told] == ["2", "29", "39"]


def test_a_filter_has_so_many_comparisons_and_no_more() -> None:
    assert parsed(" || ".join(["version == 1"] * COMPARISONS_MAX)) is not None
    (told,) = faults_of(" || ".join(["x == 1"] * (COMPARISONS_MAX + 9)))[COMPARISONS_MAX:]
    assert told.startswith(f"filter: character {10 * COMPARISONS_MAX + 1}: one filter has at most")
