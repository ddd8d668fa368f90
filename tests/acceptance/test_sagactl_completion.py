"""Completion: what shells are offered, that it is quick, and that nothing is ever said on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sagactl.live_values import ANSWER_SECONDS, FRESH_SECONDS
from tests.acceptance.conftest import Client, Serving
from tests.eventually import PATIENCE_SECONDS, wait_until
from tests.sagactl_runs import command, environment_of, run_here

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """What bash is offered for the last of the words. Nothing is said on standard error, and the end is always a good one."""

    def ask(*words: str, environment: dict[str, str] | None = None) -> list[str]:
        asked = {
            "_SAGACTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("sagactl", *words)),
            "COMP_CWORD": str(len(words)),
            "XDG_CACHE_HOME": str(tmp_path),
            **(environment or {}),
        }
        done = subprocess.run(
            command(),
            capture_output=True,
            text=True,
            env=environment_of(asked),
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    return ask


def test_commands_and_flags(complete: Complete) -> None:
    assert complete("sag") == ["sagas"]
    assert {"list", "show", "watch", "pause"} <= set(complete("sagas", ""))
    assert "--reason" in complete("sagas", "cancel", "--re")


def test_live_values_come_from_the_server(complete: Complete, coordinator: Serving, client: Client) -> None:
    client.register("completed-definition", "quick")
    started = run_here(
        "sagas", "start", "completed-definition", "--label", "region=eu", "--fields", "saga.saga_id",
        "--address", coordinator.address, "--timeout", "60s",
    )  # fmt: skip
    saga = started.stdout.strip()
    at = {"SAGACTL_ADDRESS": coordinator.address}
    for words, offered in (
        (("sagas", "show", saga[:30]), saga),
        (("sagas", "start", "completed-d"), "completed-definition"),
        (("sagas", "list", "--label", "region"), "region=eu"),
        (("participants", "show", "sh"), "shop"),
        (("call", "StartSa"), "saga.v1.SagaService/StartSaga"),
    ):
        wait_until(partial(_offers, complete, words, offered, at), f"`{offered}` offered")


def _offers(complete: Complete, words: tuple[str, ...], offered: str, at: dict[str, str]) -> bool:
    return offered in complete(*words, environment=at)


def test_a_server_that_is_away_is_answered_from_what_is_kept_and_in_silence(
    complete: Complete, tmp_path: Path
) -> None:
    away = {"SAGACTL_ADDRESS": "127.0.0.1:1"}
    assert complete("definitions", "get", "", environment=away) == []
    (begun,) = (tmp_path / "sagactl").glob("*.begun")
    kept = begun.with_suffix(".json")
    kept.write_text(json.dumps([["order", "version 3"]]))
    old = time.time() - 10 * FRESH_SECONDS
    os.utime(kept, (old, old))
    assert complete("definitions", "get", "", environment=away) == ["order"]


def test_a_shell_waits_for_no_server_and_loads_no_grpc() -> None:
    """What takes long is gRPC, and the server: neither is in the process that answers the shell."""
    assert ANSWER_SECONDS <= 0.15
    code = (
        "import sys, sagactl.program, sagactl.live_values, sagactl.commands.sagas, sagactl.commands.call, "
        "sagactl.commands.definitions, sagactl.commands.participants; "
        "print([name for name in ('grpc', 'google.protobuf', 'rich', 'yaml', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment_of(), check=True
    )
    assert done.stdout.strip() == "[]"


def test_broken_surroundings_are_silent(complete: Complete, tmp_path: Path) -> None:
    faulty = tmp_path / "contexts.yaml"
    faulty.write_text("nonsense: [")
    assert complete("sagas", "show", "", environment={"SAGACTL_CONFIG": str(faulty)}) == []
    assert complete("--context", "", environment={"SAGACTL_CONFIG": str(faulty)}) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    done = run_here("completion", shell)
    assert done.returncode == 0
    assert f"_SAGACTL_COMPLETE={shell}_complete" in done.stdout
