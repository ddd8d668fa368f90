"""`sagactl doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click

from sagactl import __version__
from sagactl.endings import Ending, Problem, Unavailable
from sagactl.invocation import Asking, Invocation, pass_invocation
from sagactl.showing.entries import cause_text
from sagactl.showing.formats import Column
from sagactl.showing.instants import from_now, instant
from sagactl.showing.values import short
from sagactl.spans import in_words

_CERTIFICATE_DAYS_MIN = 14
_CLOCK_SECONDS_MAX = 1.0

WELL, WORTH_A_LOOK, WRONG, UNKNOWN = "well", "look", "wrong", "unknown"

Finding = dict[str, Any]
Check = Callable[[Invocation], Iterator[Finding]]


@click.command(cls=Asking)
@pass_invocation
def doctor(invocation: Invocation) -> None:
    """Look for what is wrong between here and the server, and in what the server sees.

    Exits with 0 if nothing is wrong, else with 1; with 5 if the server cannot be reached.
    """
    found: list[Finding] = []
    try:
        for what, check in _CHECKS:
            found += _checked(invocation, what, check)
    finally:
        invocation.output.many(found, _COLUMNS)
    click.get_current_context().exit(
        Ending.NO if any(each["verdict"] == WRONG for each in found) else Ending.DONE
    )


_MARKS = {WELL: "ok", WORTH_A_LOOK: "look", WRONG: "WRONG", UNKNOWN: "?"}
_COLUMNS = (
    Column("", lambda row: _MARKS[row["verdict"]]),
    Column("WHAT", "what"),
    Column("FOUND", "found"),
)


def _finding(what: str, verdict: str, found: str) -> Finding:
    return {"what": what, "verdict": verdict, "found": found}


def _checked(invocation: Invocation, what: str, check: Check) -> Iterator[Finding]:
    """What a check finds. A question that the server does not answer is a finding, unless the server cannot be reached."""
    try:
        yield from check(invocation)
    except Unavailable as problem:
        if check is _server:
            raise
        yield _finding(what, WRONG, problem.lines[0])
    except Problem as problem:
        yield _finding(what, UNKNOWN, problem.lines[0])


def _server(invocation: Invocation) -> Iterator[Finding]:
    connection = invocation.connection
    services = invocation.server.described(lambda contract: contract.services())
    context = f", context {connection.context}" if connection.context else ""
    yield _finding(
        "server", WELL, f"{connection.address}{context}{', TLS' if connection.is_tls else ', plain text'}"
    )
    is_ours = any(service.startswith("saga.v1.") for service in services)
    ours = ", ".join(
        sorted(service.rpartition(".")[2] for service in services if service.startswith("saga.v1."))
    )
    yield _finding(
        "services", WELL if is_ours else WRONG, ours or f"no saga coordinator; it has {', '.join(services)}"
    )


def _certificate(invocation: Invocation) -> Iterator[Finding]:
    from sagactl.connecting.diagnosis import certificate_ends_at  # noqa: PLC0415

    if not invocation.connection.is_tls:
        return
    ends_at = certificate_ends_at(invocation.connection)
    if ends_at is None:
        yield _finding("certificate", UNKNOWN, "it cannot be read")
        return
    left = (ends_at - datetime.now(UTC)).total_seconds()
    verdict = WELL if left > _CERTIFICATE_DAYS_MIN * 86400 else WORTH_A_LOOK if left > 0 else WRONG
    yield _finding("certificate", verdict, f"ends {from_now(ends_at, datetime.now(UTC))}")


def _health(invocation: Invocation) -> Iterator[Finding]:
    for service in ("", "saga.v1.SagaService"):
        status = invocation.server.call("grpc.health.v1.Health/Check", {"service": service})["status"]
        what = "readiness: database, lease and background work" if service else "process"
        yield _finding(what, WELL if status == "SERVING" else WRONG, str(status))


def _versions(invocation: Invocation) -> Iterator[Finding]:
    groups = list(invocation.server.pages("saga.v1.DirectoryService/ListGroups", {}, "groups"))
    versions = sorted({each["version"] for group in groups for each in group["coordinators"]})
    verdict = WELL if len(versions) == 1 else WORTH_A_LOOK
    yield _finding(
        "versions", verdict, f"coordinators {', '.join(versions) or 'none'}; sagactl {__version__}"
    )
    for group in groups:
        waiting = group["sagas_waiting"]
        since = from_now(instant(group.get("waiting_since")), datetime.now(UTC))
        told = f"{group['coordinators_alive']} coordinators" + (
            f", {waiting} sagas wait since {since}" if waiting else ""
        )
        verdict = WRONG if not group["served"] and waiting else WORTH_A_LOOK if waiting else WELL
        yield _finding(f"group {group['name']}", verdict, told)


def _clock(invocation: Invocation) -> Iterator[Finding]:
    before = datetime.now(UTC)
    page = invocation.server.call("saga.v1.SagaService/ListSagas", {"page_size": 1})
    newest = instant(page["sagas"][0].get("started_at")) if page["sagas"] else None
    if newest is None:
        yield _finding("clock", UNKNOWN, "no saga has started yet, whose time could be compared")
        return
    ahead = (newest - before).total_seconds()
    is_behind = ahead > _CLOCK_SECONDS_MAX
    told = (
        f"this machine is at least {in_words(ahead)} behind the database"
        if is_behind
        else "not behind the database"
    )
    yield _finding("clock", WRONG if is_behind else WELL, told)


def _sagas(invocation: Invocation) -> Iterator[Finding]:
    request = {"statuses": ["SAGA_STATUS_NEEDS_ATTENTION"], "page_size": 1000}
    page = invocation.server.call("saga.v1.SagaService/ListSagas", request)
    count, more = len(page["sagas"]), "more than " if page["next_page_token"] else ""
    told = (
        f"{more}{count} need a person: sagactl sagas list -s needs_attention"
        if count
        else "none needs a person"
    )
    yield _finding("sagas", WORTH_A_LOOK if count else WELL, told)


def _participants(invocation: Invocation) -> Iterator[Finding]:
    count = 0
    for status in invocation.server.pages("saga.v1.DirectoryService/ListParticipants", {}, "statuses"):
        count += 1
        breaker, connection = short(status["breaker"]), status["connectivity"]
        if breaker == "OPEN" or connection == "TRANSIENT_FAILURE":
            failure = cause_text(status.get("last_failure")) or "none"
            told = f"breaker {breaker}, connection {connection or 'none'}, last failure {failure}"
            yield _finding(f"participant {status['participant']['name']}", WRONG, told)
        elif short((status.get("breaker_setting") or {}).get("control")) not in ("", "AUTOMATIC"):
            yield _finding(
                f"participant {status['participant']['name']}",
                WORTH_A_LOOK,
                f"a person set its breaker: {breaker}",
            )
    yield _finding("participants", WELL if count else WORTH_A_LOOK, f"{count} known")


_CHECKS: tuple[tuple[str, Check], ...] = (
    ("server", _server),
    ("certificate", _certificate),
    ("health", _health),
    ("versions and claim groups", _versions),
    ("clock", _clock),
    ("sagas", _sagas),
    ("participants", _participants),
)
