"""Where live values for shells come from: identities, definitions, participants, methods, labels.

A shell must not wait, so this process never asks the server itself. It answers from a cache, and where that is old it starts a
process that fills the cache, for which it waits a moment. Whatever goes wrong, nothing is said and nothing is offered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagactl.invocation import Invocation

if TYPE_CHECKING:
    from sagactl.asking import Server

ANSWER_SECONDS = 0.12
"""How long a shell waits at most, counted from here on; starting the program comes on top."""
FRESH_SECONDS = 15.0
OFFERED_MAX = 200
_ASKING_SECONDS = "2s"
_LOOK_SECONDS = 0.01

Value = tuple[str, str]
"""What is offered, and what is said about it."""


def _sagas(server: Server) -> Iterable[Value]:
    page = server.call("saga.v1.SagaService/ListSagas", {"page_size": OFFERED_MAX})
    for saga in page["sagas"]:
        status = str(saga["status"]).removeprefix("SAGA_STATUS_")
        yield saga["saga_id"], f"{saga['definition']} {status} {saga['start_key']}"


def _labels(server: Server) -> Iterable[Value]:
    page = server.call("saga.v1.SagaService/ListSagas", {"page_size": OFFERED_MAX})
    seen = {f"{key}={value}" for saga in page["sagas"] for key, value in saga["labels"].items()}
    return ((label, "") for label in sorted(seen))


def _definitions(server: Server) -> Iterable[Value]:
    for each in server.call("saga.v1.DefinitionService/ListDefinitions", {"page_size": OFFERED_MAX})[
        "definitions"
    ]:
        yield each["definition"]["name"], f"version {each['version']}"


def _participants(server: Server) -> Iterable[Value]:
    for each in server.call("saga.v1.DirectoryService/ListParticipants", {"page_size": OFFERED_MAX})[
        "statuses"
    ]:
        yield each["participant"]["name"], each["participant"]["target"] or "worker"


def _methods(server: Server) -> Iterable[Value]:
    contract = server.contract
    for name in contract.services():
        found = contract.service(name)
        for method in () if found is None else found.methods:
            yield f"{name}/{method.name}", contract.comment(method).partition(". ")[0]


KINDS: Mapping[str, Callable[[Any], Iterable[Value]]] = {
    "definitions": _definitions,
    "labels": _labels,
    "methods": _methods,
    "participants": _participants,
    "sagas": _sagas,
}


def values(invocation: Invocation, kind: str) -> list[Value]:
    """The values of a kind, as old as they may be. Raises whatever keeps them from being had; the shell is told nothing of it."""
    give_up_at = time.monotonic() + ANSWER_SECONDS
    kept = _cache_file(invocation, kind)
    if _age_seconds(kept) > FRESH_SECONDS:
        _refresh(invocation, kind, kept)
        while _age_seconds(kept) > FRESH_SECONDS and time.monotonic() < give_up_at:
            time.sleep(_LOOK_SECONDS)
    return [(str(value), str(said)) for value, said in json.loads(kept.read_text(encoding="utf-8"))]


def _cache_file(invocation: Invocation, kind: str) -> Path:
    connection = invocation.connection
    place = f"{connection.address}\n{connection.context}\n{connection.namespace}\n{connection.descriptor_set}"
    folder = Path(invocation.environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sagactl"
    return folder / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}-{kind}.json"


def _age_seconds(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return float("inf")


def _refresh(invocation: Invocation, kind: str, kept: Path) -> None:
    """Starts the process that asks the server, unless one was started a moment ago. It ends by itself, by its time-out."""
    begun = kept.with_suffix(".begun")
    if _age_seconds(begun) < 3.0:
        return
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begun.touch(mode=0o600)
    subprocess.Popen(
        [sys.executable, "-m", "sagactl.live_values", kind, str(kept), json.dumps(invocation.flags)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def fill(kind: str, kept: Path, flags: dict[str, Any]) -> None:
    """Asks the server, and keeps what it says in the file."""
    invocation = Invocation(flags={**flags, "timeout": _ASKING_SECONDS})
    values = list(KINDS[kind](invocation.server))
    descriptor, scratch = tempfile.mkstemp(dir=kept.parent, prefix=".")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(values, file)
    Path(scratch).replace(kept)


if __name__ == "__main__":
    with contextlib.suppress(Exception):
        fill(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
