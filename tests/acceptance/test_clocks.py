"""P10: coordinators whose clock or time zone is hours off behave as those with the right ones do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga_coordinator.pb.saga.v1 import saga_pb2
from tests.acceptance.conftest import ROOT, Client, Shop, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.proof

Environment = dict[str, str]
Connect = Callable[[str], Client]

CLOCK_ERROR_SECONDS = 0.05
"""What a due time may be early by: how old the coordinator's last look at the database's clock was when it was told."""

SLACK_SECONDS = 10.0
"""For a machine that is busy. An hour's difference would be far beyond, or far before."""

_FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def in_zone(_: Path) -> Environment:
    return {"TZ": "Pacific/Kiritimati"}


def ahead_for_python(folder: Path) -> Environment:
    """Everything that asks Python for the time is told a wrong one."""
    (folder / "sitecustomize.py").write_text(
        "from proof.torture.crashing import shift_clock\nshift_clock(11 * 3600)\n", encoding="utf-8"
    )
    return {"TZ": "Pacific/Kiritimati", "PYTHONPATH": f"{folder}:{ROOT}"}


def behind_for_everything(_: Path) -> Environment:
    """Everything that asks the system for the time is told a wrong one, gRPC's core in C too."""
    if not _FAKETIME:
        pytest.skip("libfaketime is not installed; Debian and Ubuntu: apt-get install faketime")
    shift = {"LD_PRELOAD": str(_FAKETIME[0]), "FAKETIME": "-11h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"TZ": "America/Adak", **shift}


CLOCKS = [in_zone, ahead_for_python, behind_for_everything]


def register(client: Client, name: str, action: dict[str, Any], **more: Any) -> None:
    step = {"name": "only", "action": {"participant": "shop", **action}}
    step["compensation"] = {"participant": "shop", "method": "undo"}
    client.define({"name": name, "steps": [step], **more})


@pytest.mark.parametrize("clock", CLOCKS)
def test_p10_delays_deadlines_and_the_number_of_calls(
    clock: Callable[[Path], Environment],
    serving: StartServing,
    connect: Connect,
    shop: Shop,
    participants_file: Path,
    database_dsn: str,
    tmp_path: Path,
) -> None:
    program = serving("--participants", participants_file, environment=clock(tmp_path))
    client = connect(program.address)
    twice = {"max_attempts": 2, "initial_backoff": "0.1s"}
    register(client, "pending", {"method": "later", "pending_timeout": "1.5s", "retry": twice})
    register(
        client, "away", {"method": "away", "retry": {**twice, "max_attempts": 4, "initial_backoff": "0.5s"}}
    )
    register(client, "late", {"method": "later", "pending_timeout": "3600s"}, deadline="2s")
    before = time.time()
    sagas = {name: client.start(name).saga_id for name in ("pending", "away", "late")}
    stories = {name: client.settled(saga_id) for name, saga_id in sagas.items()}
    assert {story.status for story in stories.values()} == {saga_pb2.SAGA_STATUS_COMPENSATED}
    for story in stories.values():
        assert abs(story.started_at.ToSeconds() - before) < SLACK_SECONDS

    calls: dict[str, list[str]] = {saga_id: [] for saga_id in sagas.values()}
    while not shop.called.empty():
        call = shop.called.get()
        calls[call.saga_id].append(call.method)
    assert calls[sagas["pending"]] == ["later", "later", "undo"]
    assert calls[sagas["away"]] == ["away"] * 4 + ["undo"]
    assert calls[sagas["late"]] == ["later", "undo"]

    with psycopg.connect(database_dsn) as connection:
        lasted: dict[str, float] = dict(
            connection.execute(
                "SELECT definition, extract(epoch FROM ended_at - started_at)::float8 FROM saga.sagas"
            ).fetchall()
        )
        # What is due when, against Postgres's own time of writing it down.
        instants = connection.execute(
            """
            SELECT type, (said ->> 'retry_delay_seconds')::float8, extract(epoch FROM recorded_at)::float8,
                coalesce(said ->> 'retry_at', said ->> 'pending_until')::float8
            FROM saga.log CROSS JOIN LATERAL (SELECT convert_from(facts, 'UTF8')::jsonb AS said) AS facts_of
            WHERE said ?| array['retry_at', 'pending_until'] AND saga_id <> %s
        """,
            [sagas["late"]],
        ).fetchall()
    assert 3.0 - CLOCK_ERROR_SECONDS <= lasted["pending"] < 3.0 + SLACK_SECONDS
    assert 2.0 - CLOCK_ERROR_SECONDS <= lasted["late"] < 2.0 + SLACK_SECONDS
    assert len(instants) == 2 + 1 + 3
    for kind, delay, recorded_at, due_at in instants:
        expected = recorded_at + (1.5 if kind == "attempt_pending" else delay)
        assert abs(due_at - expected) < 1.0


def _see_two_leases_pass(connection: psycopg.Connection) -> None:
    """Returns once both coordinators have renewed their leases for so long."""
    later = connection.execute("SELECT clock_timestamp() + interval '3 s'").fetchall()[0][0]
    renewed = "SELECT count(*) FROM saga.coordinators WHERE lease_until > %s"
    wait_until(lambda: connection.execute(renewed, (later,)).fetchall() == [(2,)], "two leases to pass")


@pytest.mark.parametrize("clock", CLOCKS[1:])
@pytest.mark.parametrize(
    "is_killed_one_wrong", [True, False], ids=["to the right clock", "to the wrong clock"]
)
def test_p10_coordinators_hours_apart_hand_over_to_each_other(
    clock: Callable[[Path], Environment],
    is_killed_one_wrong: bool,
    serving: StartServing,
    connect: Connect,
    shop: Shop,
    participants_file: Path,
    database_dsn: str,
    tmp_path: Path,
) -> None:
    flags = ("--participants", participants_file, "--lease-seconds", "1")
    right, wrong = serving(*flags), serving(*flags, environment=clock(tmp_path))
    dying, living = (wrong, right) if is_killed_one_wrong else (right, wrong)
    client = connect(dying.address)
    client.register("slow", "hang", "quick")
    saga_id = client.start("slow").saga_id
    assert shop.called.get(timeout=PATIENCE_SECONDS).method == "hang"
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        _see_two_leases_pass(connection)  # by a wrong idea of the time, the other would have taken it
        adopted_at = "SELECT recorded_at FROM saga.log WHERE type = 'saga_adopted'"
        assert connection.execute(adopted_at).fetchall() == []
        killed_at = connection.execute("SELECT clock_timestamp()").fetchall()[0][0]
        dying.close()
        shop.may_answer.set()
        assert connect(living.address).settled(saga_id).status == saga_pb2.SAGA_STATUS_COMPLETED
        ((at,),) = connection.execute(adopted_at).fetchall()
    assert (at - killed_at).total_seconds() < SLACK_SECONDS
