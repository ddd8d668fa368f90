"""`sagactl approvals ...`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from sagactl.commands.sagas import saga_argument
from sagactl.endings import NotFound, Problem, WrongUsage
from sagactl.invocation import Asking, Invocation, note, pass_invocation
from sagactl.showing.formats import Column
from sagactl.showing.instants import from_now, instant
from sagactl.showing.values import short

SERVICE = "saga.v1.SagaService"
_LOOKED_AT_MAX = 1000

Plain = dict[str, Any]

_step = click.argument("step", required=False)
_comment = click.option("--comment", metavar="TEXT", default="", help="A comment, which the log keeps.")
_by = click.option(
    "--by", "decided_by", metavar="NAME", help="Who decides. [default: --requested-by, else your user name]"
)


@click.group()
def approvals() -> None:
    """Steps that wait for a person."""


@approvals.command("list", cls=Asking)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the steps of running sagas that wait for a person, among the newest 1,000 running sagas."""
    now = datetime.now(UTC)
    columns = [
        Column("SAGA", "saga_id"),
        Column("DEFINITION", "definition"),
        Column("STEP", "step"),
        Column("UNTIL", lambda row: from_now(instant(row["waiting_until"]), now)),
        Column("SHOWN", "shown"),
    ]
    if not invocation.output.many(_waiting(invocation), columns):
        note("Nobody is waited for.")


def _waiting(invocation: Invocation) -> Iterator[Plain]:
    request = {"statuses": ["SAGA_STATUS_RUNNING"], "page_size": _LOOKED_AT_MAX}
    found = invocation.server.pages(f"{SERVICE}/ListSagas", request, "sagas")
    for saga in itertools.islice(found, _LOOKED_AT_MAX):
        try:
            full = invocation.server.call(f"{SERVICE}/GetSaga", {"saga_id": saga["saga_id"]})["saga"]
        except NotFound:
            continue
        for step in _of_approvals(invocation, full):
            yield {
                "saga_id": full["saga_id"],
                "definition": f"{full['definition']}@{full['version']}",
                "step": step["name"],
                "waiting_until": step.get("waiting_until"),
                "shown": step.get("shown"),
            }


def _of_approvals(invocation: Invocation, saga: Plain) -> list[Plain]:
    """The steps that wait for a person. What a step is, its definition says."""
    waiting = [
        step for step in saga["steps"] if short(step["status"]) == "WAITING" and not step["awaited_event"]
    ]
    if not waiting:
        return []
    named = _approval_names(invocation, saga["definition"], saga["version"])
    return [step for step in waiting if step["name"].rpartition(".")[2].partition("[")[0] in named]


_KNOWN: dict[tuple[str, int], frozenset[str]] = {}


def _approval_names(invocation: Invocation, name: str, version: int) -> frozenset[str]:
    if (name, version) not in _KNOWN:
        request = {"name": name, "version": version}
        try:
            found = invocation.server.call("saga.v1.DefinitionService/GetDefinition", request, defaults=False)
        except Problem:
            return frozenset()
        _KNOWN[name, version] = frozenset(_named_approvals(found["registered"].get("definition")))
    return _KNOWN[name, version]


def _named_approvals(value: Any) -> Iterator[str]:
    """The names of all steps with an approval, wherever they stand in the definition."""
    if isinstance(value, dict):
        if "approval" in value and "name" in value:
            yield str(value["name"])
        for inner in value.values():
            yield from _named_approvals(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named_approvals(inner)


@approvals.command(cls=Asking)
@saga_argument
@_step
@_comment
@_by
@pass_invocation
def approve(
    invocation: Invocation, saga: str, step: str | None, comment: str, decided_by: str | None
) -> None:
    """Approve STEP of a saga. STEP may be left out where only one waits for a person."""
    _decide(invocation, saga, step, comment, decided_by, approved=True)


@approvals.command(cls=Asking)
@saga_argument
@_step
@_comment
@_by
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask.")
@pass_invocation
def reject(
    invocation: Invocation, saga: str, step: str | None, comment: str, decided_by: str | None, is_sure: bool
) -> None:
    """Reject STEP of a saga: the step is refused, and so the saga is undone."""
    invocation.confirm(f"{step or 'The step'} will be refused, and the saga undone.", is_sure=is_sure)
    _decide(invocation, saga, step, comment, decided_by, approved=False)


def _decide(
    invocation: Invocation,
    saga: str,
    step: str | None,
    comment: str,
    decided_by: str | None,
    *,
    approved: bool,
) -> None:
    identity = invocation.identity_of(saga)
    request = {
        "saga_id": identity,
        "step": step or _only_step(invocation, identity),
        "approved": approved,
        "decided_by": decided_by or invocation.requested_by,
        "comment": comment,
    }
    answer = invocation.server.call(f"{SERVICE}/DecideApproval", request)
    word = "approved" if approved else "rejected"
    said = {"saga_id": identity, "step": request["step"], "approved": approved, **answer}
    text = f"{request['step']} is {word}" + ("" if answer["applied"] else "; you had decided so before")
    invocation.output.one(said, lambda: text)


def _only_step(invocation: Invocation, identity: str) -> str:
    saga = invocation.server.call(f"{SERVICE}/GetSaga", {"saga_id": identity})["saga"]
    steps = [step["name"] for step in _of_approvals(invocation, saga)]
    if len(steps) != 1:
        raise WrongUsage(f"name the step: {', '.join(steps) or 'none'} of {identity} waits for a person")
    return str(steps[0])
