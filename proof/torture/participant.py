"""A guarded participant: a process of its own with its own books in SQLite, which survive kill -9.

    python -m proof.torture.participant --name money --port 7301 --books money.sqlite --seed 1 --report-to 127.0.0.1:7242

It keeps the three promises of `saga/v1/participant_service.proto` by writing the key and its answer in the transaction of the
effect, and takes down every call that it sees. How it behaves is the operation's method:

    Steady      does as asked
    Slow        does as asked, in a tenth of a second
    SecondTime  is unavailable for the first attempt
    Fickle      now and then refuses, is slow, answers too late, acts after the deadline, or fails after it has acted
    Later       as Fickle, but accepts first, and reports the outcome through any coordinator
    Hanging     never answers

SIGUSR1 makes it unavailable for a moment. Instants are seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from saga_client.v1 import participant_service_pb2 as pb
from saga_client.v1 import saga_pb2, saga_service_pb2
from saga_client.v1.participant_service_pb2_grpc import (
    ParticipantServiceServicer,
    add_ParticipantServiceServicer_to_server,
)
from saga_client.v1.saga_service_pb2_grpc import SagaServiceStub

from proof.torture import definitions
from proof.torture.dying import die_with_parent

Context = grpc.aio.ServicerContext[Any, Any]

SCHEMA: Final = """
create table if not exists operations (
    key text primary key, kind text not null, digest text, status text not null, receipt text
);
create table if not exists effects (
    effect integer primary key, key text not null, saga_id text not null, step text not null,
    applied_at real not null, undone_by text, undone_at real
);
create table if not exists calls (
    call integer primary key, key text not null, header_key text not null, action_key text, saga_id text not null,
    step text not null, operation text not null, attempt integer not null, receipt text,
    arrived_at real not null, arrived_wall real not null, trouble text not null default '', ended_at real, answer text
);
create table if not exists reports (
    key text primary key, saga_id text not null, step text not null, operation text not null, status text not null,
    receipt text, is_told integer not null default 0
);
"""

ANSWER_LATE_SECONDS: Final = 1.6
"""Beyond the attempt's timeout of one second."""
SLOW_SECONDS: Final = 0.1
ACTION, COMPENSATION = "action", "compensation"


class Books:
    """The participant's tables. No method waits, so each is one step for everybody else in the process."""

    def __init__(self, path: Path, *, keeps_calls: bool = True) -> None:
        self._keeps_calls = keeps_calls
        self._db = sqlite3.connect(path, isolation_level=None)
        # Without a sync a commit still survives the process; only the machine's end could take it.
        self._db.executescript("pragma journal_mode = wal; pragma synchronous = off;")
        self._db.executescript(SCHEMA)

    def arrived(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, header_key: str, receipt: str | None
    ) -> int:
        if not self._keeps_calls:
            return 0
        is_action = isinstance(request, pb.ExecuteRequest)
        cursor = self._db.execute(
            "insert into calls (key, header_key, action_key, saga_id, step, operation, attempt, receipt, arrived_at,"
            " arrived_wall) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                request.idempotency_key,
                header_key,
                None if is_action else request.action_idempotency_key,  # type: ignore[union-attr]
                request.saga_id,
                request.step,
                ACTION if is_action else COMPENSATION,
                request.attempt,
                receipt,
                time.monotonic(),
                time.time(),
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def troubled(self, call: int, trouble: str) -> None:
        self._db.execute("update calls set trouble = ? where call = ?", (trouble, call))

    def ended(self, call: int, answer: str) -> None:
        if not self._keeps_calls:
            return
        values = (time.monotonic(), answer, call)
        self._db.execute("update calls set ended_at = ?, answer = ? where call = ?", values)

    def execute(self, request: pb.ExecuteRequest, digest: str, *, refuses: bool) -> tuple[str, str | None]:
        """The status and the receipt of an action, done now or remembered."""
        self._db.execute("begin immediate")
        try:
            answer = self._known(request.idempotency_key, digest)
            if answer is None:
                answer = ("FAILED_PRECONDITION", None) if refuses else ("OK", request.idempotency_key)
                self._remember(request.idempotency_key, ACTION, digest, answer)
                if not refuses:
                    self._db.execute(
                        "insert into effects (key, saga_id, step, applied_at) values (?, ?, ?, ?)",
                        (request.idempotency_key, request.saga_id, request.step, time.monotonic()),
                    )
        finally:
            self._db.execute("commit")
        return answer

    def compensate(self, request: pb.CompensateRequest, digest: str) -> tuple[str, str | None]:
        """The status of a compensation, done now or remembered; bars the action from now on."""
        key, action_key = request.idempotency_key, request.action_idempotency_key
        self._db.execute("begin immediate")
        try:
            answer = self._known(key, digest)
            if answer is None:
                did = self._db.execute(
                    "select status from operations where key = ?", (action_key,)
                ).fetchone()
                answer = ("OK", None) if did == ("OK",) else ("NOT_FOUND", None)
                self._db.execute("delete from operations where key = ?", (action_key,))
                self._remember(action_key, "tombstone", None, ("FAILED_PRECONDITION", None))
                self._remember(key, COMPENSATION, digest, answer)
                self._db.execute(
                    "update effects set undone_by = ?, undone_at = ? where key = ? and undone_by is null",
                    (key, time.monotonic(), action_key),
                )
        finally:
            self._db.execute("commit")
        return answer

    def is_decided(self, key: str) -> bool:
        return self._db.execute("select 1 from operations where key = ?", (key,)).fetchone() is not None

    def accept(self, request: pb.ExecuteRequest, status: str, receipt: str | None) -> bool:
        """Whether the outcome is new and was noted as one to report."""
        row = (request.idempotency_key, request.saga_id, request.step, ACTION, status, receipt)
        cursor = self._db.execute(
            "insert into reports (key, saga_id, step, operation, status, receipt) values (?, ?, ?, ?, ?, ?)"
            " on conflict do nothing",
            row,
        )
        return cursor.rowcount == 1

    def untold(self) -> list[tuple[str, str, str, str, str | None]]:
        """Key, saga, step, status and receipt of what has not been reported yet."""
        query = "select key, saga_id, step, status, receipt from reports where not is_told"
        return self._db.execute(query).fetchall()

    def told(self, key: str) -> None:
        self._db.execute("update reports set is_told = 1 where key = ?", (key,))

    def _known(self, key: str, digest: str) -> tuple[str, str | None] | None:
        row = self._db.execute(
            "select status, receipt, digest from operations where key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        status, receipt, known_digest = row
        return ("ALREADY_EXISTS", None) if known_digest not in (None, digest) else (status, receipt)

    def _remember(self, key: str, kind: str, digest: str | None, answer: tuple[str, str | None]) -> None:
        self._db.execute("insert into operations values (?, ?, ?, ?, ?)", (key, kind, digest, *answer))


class Participant(ParticipantServiceServicer):
    def __init__(self, books: Books, seed: int) -> None:
        self._books = books
        self._seed = seed
        self._unavailable_until = 0.0
        self._acting: set[asyncio.Future[None]] = set()
        self.has_reports = asyncio.Event()

    def flap(self) -> None:
        self._unavailable_until = time.monotonic() + random.uniform(0.5, 2.0)

    async def Execute(self, request: pb.ExecuteRequest, context: Context) -> pb.ExecuteResponse:  # noqa: N802  # the RPC's name
        status, receipt = await self._serve(request, context)
        if status == "PENDING":
            return pb.ExecuteResponse(pending=True)
        if status != "OK":
            await _refuse(context, status, "as it happens")
        return pb.ExecuteResponse(output=ParseDict({"receipt": receipt}, Value()))

    async def Compensate(self, request: pb.CompensateRequest, context: Context) -> pb.CompensateResponse:  # noqa: N802
        status, _ = await self._serve(request, context)
        if status != "OK":
            await _refuse(context, status, "as it happens")
        return pb.CompensateResponse()

    async def _serve(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, context: Context
    ) -> tuple[str, str | None]:
        header_key = dict(context.invocation_metadata() or ()).get("idempotency-key", "")
        said: Any = MessageToDict(request.input)
        receipt = said.get("receipt") if isinstance(said, dict) else None
        call = self._books.arrived(request, str(header_key), receipt)
        # Shielded: what has begun takes effect also when the caller has hung up.
        work = asyncio.ensure_future(self._perform(request, call))
        return await asyncio.shield(work)

    async def _perform(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, call: int
    ) -> tuple[str, str | None]:
        answer = await self._answer(request, call)
        self._books.ended(call, answer[0])
        return answer

    async def _answer(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, call: int
    ) -> tuple[str, str | None]:
        dice = random.Random(f"{self._seed} {request.idempotency_key} {request.attempt}")
        if time.monotonic() < self._unavailable_until:
            self._books.troubled(call, "flap")
            return "UNAVAILABLE", None
        match request.method:
            case definitions.HANGING:
                await asyncio.sleep(3600)
            case definitions.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            case definitions.HALF if dice.random() < 0.5:  # a half
                return "UNAVAILABLE", None
            case definitions.SECOND_TIME if request.attempt == 1:
                return "UNAVAILABLE", None
            case definitions.FICKLE | definitions.LATER:
                return await self._fickly(request, call, dice)
            case _:
                pass
        return self._do(request, refuses=False)

    async def _fickly(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, call: int, dice: random.Random
    ) -> tuple[str, str | None]:
        draw = dice.random()
        refuses = self._refuses(request, call)
        if isinstance(request, pb.CompensateRequest) and refuses:
            return "FAILED_PRECONDITION", None
        if draw < 0.02:
            self._books.troubled(call, "unavailable")
            return "UNAVAILABLE", None
        if draw < 0.05:
            self._books.troubled(call, "slow")
            await asyncio.sleep(dice.uniform(0.1, 0.9))
        elif draw < 0.065:
            self._books.troubled(call, "acts after the deadline")
            await asyncio.sleep(ANSWER_LATE_SECONDS)
        if request.method == definitions.LATER and isinstance(request, pb.ExecuteRequest):
            return await self._later(request, dice, refuses=refuses)
        answer = self._do(request, refuses=refuses)
        if 0.065 <= draw < 0.08:
            self._books.troubled(call, "answers after the deadline")
            await asyncio.sleep(ANSWER_LATE_SECONDS)
        elif 0.08 <= draw < 0.1:
            self._books.troubled(call, "fails after the effect")
            return dice.choice(("INTERNAL", "UNKNOWN", "UNAVAILABLE", "ABORTED")), None
        return answer

    def _refuses(self, request: pb.ExecuteRequest | pb.CompensateRequest, call: int) -> bool:
        """Always the same for one operation."""
        share = 0.04 if isinstance(request, pb.ExecuteRequest) else 0.01
        refuses = random.Random(f"{self._seed} {request.idempotency_key}").random() < share
        if refuses:
            self._books.troubled(call, "refuses")
        return refuses

    async def _later(
        self, request: pb.ExecuteRequest, dice: random.Random, *, refuses: bool
    ) -> tuple[str, str | None]:
        """Acts, now or in a moment, and has it reported."""
        if self._books.is_decided(request.idempotency_key) or dice.random() < 0.3:
            return self._do(request, refuses=refuses)

        async def act() -> None:
            await asyncio.sleep(dice.uniform(0, 1.5))
            if self._books.accept(request, *self._do(request, refuses=refuses)):
                self.has_reports.set()

        self._acting.add(task := asyncio.ensure_future(act()))
        task.add_done_callback(self._acting.discard)
        return "PENDING", None

    def _do(
        self, request: pb.ExecuteRequest | pb.CompensateRequest, *, refuses: bool
    ) -> tuple[str, str | None]:
        said = request.method.encode() + request.input.SerializeToString(deterministic=True)
        digest = hashlib.sha256(said).hexdigest()
        if isinstance(request, pb.ExecuteRequest):
            return self._books.execute(request, digest, refuses=refuses)
        return self._books.compensate(request, digest)


async def _refuse(context: Context, status: str, message: str) -> NoReturn:
    await context.abort(grpc.StatusCode[status], message)
    raise AssertionError("abort raises")


class Reporter:
    """Reports outcomes through any coordinator until one has taken them, also after a restart."""

    def __init__(self, books: Books, participant: Participant, coordinators: Sequence[str]) -> None:
        self._books = books
        self._participant = participant
        self._stubs = [SagaServiceStub(grpc.aio.insecure_channel(address)) for address in coordinators]

    async def run(self) -> None:
        while self._stubs:
            self._participant.has_reports.clear()
            await asyncio.gather(*(self._report(*report) for report in self._books.untold()))
            try:
                await asyncio.wait_for(self._participant.has_reports.wait(), 0.5)
            except TimeoutError:
                continue

    async def _report(self, key: str, saga_id: str, step: str, status: str, receipt: str | None) -> None:
        request = saga_service_pb2.ReportOutcomeRequest(
            saga_id=saga_id, step=step, operation=saga_pb2.OPERATION_KIND_ACTION
        )
        if status == "OK":
            ParseDict({"receipt": receipt}, request.success.output)
        else:
            request.refused.code = status
            request.refused.message = "reported as it happens"
        stub: Any = random.choice(self._stubs)
        try:
            await stub.ReportOutcome(request, timeout=3)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                return
        self._books.told(key)


async def serve(port: int, books: Books, seed: int, coordinators: Sequence[str]) -> None:
    participant = Participant(books, seed)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, participant.flap)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_ParticipantServiceServicer_to_server(participant, server)
    is_healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(is_healthy, server)
    await is_healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    reporter = asyncio.create_task(Reporter(books, participant, coordinators).run())
    await stopping.wait()
    reporter.cancel()
    await server.stop(0.5)


def main() -> None:
    die_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--report-to", action="append", default=[])
    parser.add_argument("--no-calls", action="store_true")
    given = parser.parse_args()
    books = Books(given.books, keeps_calls=not given.no_calls)
    asyncio.run(serve(given.port, books, given.seed, given.report_to))


if __name__ == "__main__":
    main()
