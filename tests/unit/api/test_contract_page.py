"""docs/contract.md says what the code does: its tables are compared with the code that they are about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from saga_coordinator.api.saga_readers import FORWARDED_CHARACTERS_MAX, HEADERS_SENT_ON
from saga_coordinator.api.status import FAULTS_BYTES_MAX, MESSAGE_BYTES_MAX, TABLE, row_of
from saga_coordinator.participants.calls.contract import metadata_of
from saga_coordinator.participants.calls.plain_method import OUTCOME_TRAILER
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import ENTRY_TYPES
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.words import errors
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import CauseCode
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.saga.words.size import VALUES_MAX
from saga_coordinator.store.records import StartKeyTaken
from saga_coordinator.wire.field_checks import START_KEY_CHARACTERS_MAX
from saga_coordinator.wire.not_before import OWN_TRAILER
from tests.parsed import modules

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
KINDS = {each.__name__: each for each in TABLE} | {"StartKeyTaken": StartKeyTaken}


def rows(first: str) -> dict[str, list[str]]:
    """The table below the heading row that begins with `first`, by what its first column has in backquotes."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found is not None, first
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in found[1].splitlines()]
    assert len({row[0] for row in cells}) == len(cells), "a row is there twice"
    return {row[0].strip("` "): row[1:] for row in cells}


def _reason(call: ast.Call) -> Reason | None:
    match call.args:
        case [ast.Attribute(value=ast.Name(id="Reason"), attr=name), *_]:
            return Reason[name]
        case _:
            return None


def _kind(call: ast.Call, inside: str) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr="refuse" as name):
            return name
        case ast.Attribute(value=ast.Call(func=ast.Name(id="super"))):
            return inside
        case ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _calls(node: ast.AST, inside: str = "") -> Iterator[tuple[ast.Call, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, inside
        yield from _calls(child, child.name if isinstance(child, ast.ClassDef) else inside)


def told() -> set[tuple[Reason, str]]:
    """Each reason with the statuses that it comes with, from wherever the program makes an error."""
    found = {
        (each.reason, row.code.name) for each, row in TABLE.items() if "reason" in vars(each) or row.is_defect
    }
    for place, module in modules().items():
        for call, inside in _calls(module):
            kind = _kind(call, inside)
            if (reason := _reason(call)) is None:
                continue
            if kind in ("refuse", "Refusal"):
                found.add((reason, row_of(errors.Refusal(reason, "").error()).code.name))
            elif kind in KINDS:
                row = next(TABLE[each] for each in KINDS[kind].__mro__ if each in TABLE)
                found.add((reason, row.code.name))
            else:
                raise AssertionError(f"{place}:{call.lineno}: what is made with {reason} here?")
    return found


def test_the_page_has_every_reason_with_the_statuses_that_it_comes_with() -> None:
    page = {
        (Reason(name), status) for name, cells in rows("reason").items() for status in cells[0].split(", ")
    }
    assert page == told()
    assert {reason for reason, _ in page} == set(Reason)


def test_the_page_has_every_cause_code() -> None:
    assert set(rows("code")) == {code.value for code in CauseCode}


def test_the_page_has_every_entry_type_with_the_fields_of_its_body() -> None:
    page = {name: re.findall(r"`(\w+)`", cells[0]) for name, cells in rows("entry type").items()}
    columns = ("step", "operation", "attempt")
    assert page == {
        entry_type(kind): [each.name for each in fields(kind) if each.name not in columns]
        for kind in ENTRY_TYPES
    }


def test_the_page_has_all_metadata_of_a_call() -> None:
    call = Invoke("id", "step", OperationKind.ACTION, 1, "key", "shop", "Pay", None, 1.0, None)
    sent = {name for name, _ in metadata_of(call, "token")} | set(HEADERS_SENT_ON)
    page = " ".join(f"`{names}`" for names in rows("metadata"))
    assert sent | {"action-idempotency-key"} == set(re.findall(r"`([\w-]+)`", page))
    assert {OUTCOME_TRAILER, OWN_TRAILER} <= set(rows("trailer"))


def test_the_page_has_the_sizes_that_are_kept() -> None:
    sizes = " ".join(cells[0] for cells in rows("what").values())
    for number in (MESSAGE_BYTES_MAX, FAULTS_BYTES_MAX, VALUES_MAX):
        assert f"{number:,}" in sizes or str(number) in sizes
    for number in (*HEADERS_SENT_ON.values(), FORWARDED_CHARACTERS_MAX, START_KEY_CHARACTERS_MAX):
        assert str(number) in sizes
