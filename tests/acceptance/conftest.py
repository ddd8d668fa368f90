"""The real program, run as its users run it: as a process of its own, on a real database, called over gRPC."""

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, TextIO, TypeVar
from unittest import mock

import grpc
import psycopg
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from saga_coordinator.cli import main
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.pb.saga.v1.definition_service_pb2 import (
    RegisterDefinitionRequest,
    RegisterDefinitionResponse,
)
from saga_coordinator.pb.saga.v1.definition_service_pb2_grpc import DefinitionServiceStub
from saga_coordinator.pb.saga.v1.participant_service_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
)
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import (
    ParticipantServiceServicer,
    add_ParticipantServiceServicer_to_server,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2 import (
    CancelSagaRequest,
    GetSagaRequest,
    StartSagaRequest,
    WaitSagaRequest,
    WatchSagaRequest,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2_grpc import SagaServiceStub
from saga_coordinator.store.embedded import EmbeddedPostgres
from tests.conftest import new_database
from tests.eventually import PATIENCE_SECONDS, wait_until

_T = TypeVar("_T")
ROOT = Path(__file__).resolve().parent.parent.parent
LEASE_SECONDS = "10"
"""Longer than a busy machine keeps a program from renewing it, so that no call is refused for want of a lease."""


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_", "GRPC_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **more}


def run_program(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "saga_coordinator", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=_environment(environment or {}),
        input=stdin,
        timeout=PATIENCE_SECONDS,
        cwd=cwd,
        check=False,
    )


@contextlib.contextmanager
def _hearing_hangups_as_before() -> Iterator[None]:
    """`serve` ignores SIGHUP from its first moment, and what this process starts later would inherit that."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def run_here(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own, for commands that leave no trace in one: that is many times faster."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _environment(environment or {}), clear=True),
        mock.patch.object(sys, "argv", ["saga-coordinator", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _hearing_hangups_as_before(),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return subprocess.CompletedProcess(sys.argv, int(ended.value.code or 0), out.getvalue(), err.getvalue())


def fails_with(
    *arguments: str | Path, run: Callable[..., subprocess.CompletedProcess[str]] = run_program
) -> str:
    """What is wrong, said in one line on standard error, with exit code 1."""
    done = run(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


class Program:
    """A command that runs until it is told to stop; what it writes is read as it comes."""

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "saga_coordinator", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(environment or {}),
            cwd=ROOT,
        )
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.out: queue.Queue[str | None] = queue.Queue()
        self.err: queue.Queue[str | None] = queue.Queue()
        self.read: list[str] = []
        for stream, lines in ((self.popen.stdout, self.out), (self.popen.stderr, self.err)):
            threading.Thread(target=_forward, args=(stream, lines), daemon=True).start()

    def next_line(self, lines: "queue.Queue[str | None]") -> str:
        line = lines.get(timeout=PATIENCE_SECONDS)
        if line is None:
            raise AssertionError("the program has ended; it wrote:\n" + "\n".join(self.read))
        self.read.append(line)
        return line

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line of the log with that event."""
        while True:
            line = self.next_line(self.err)
            found: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
            if found.get("event") == event:
                return found

    def written(self) -> list[dict[str, Any]]:
        """The lines of the log that have been written and not read yet."""
        lines = [self.next_line(self.err) for _ in range(self.err.qsize())]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return self.popen.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()


def _forward(stream: TextIO, lines: "queue.Queue[str | None]") -> None:
    try:
        for line in stream:
            lines.put(line.rstrip("\n"))
    except ValueError:
        pass  # closed under our feet, at the test's end
    lines.put(None)


class Serving(Program):
    """A coordinator that serves."""

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        super().__init__(["serve", *arguments], environment)
        self.addresses: list[str] = []
        self._coordinator_id = ""

    def wait_until_serving(self) -> "Serving":
        line = self.wait_for("serving")
        self.addresses, self._coordinator_id = line["addresses"], line["coordinator_id"]
        return self

    def kill(self, dsn: str) -> None:
        """Ends it as a crash does. Its lease in the database of `dsn` is over at once, so that no test needs a short one."""
        self.send(signal.SIGKILL)
        self.wait()
        with psycopg.connect(dsn, autocommit=True) as connection:
            statement = (
                "UPDATE saga.coordinators SET lease_until = clock_timestamp() WHERE coordinator_id = %s"
            )
            connection.execute(statement, [self._coordinator_id])

    @property
    def address(self) -> str:
        return self.addresses[0]


StartProgram = Callable[..., Program]
StartServing = Callable[..., Serving]


@pytest.fixture
def start_program() -> Iterator[StartProgram]:
    """Starts programs that the test's end ends."""
    programs: list[Program] = []

    def start(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Program:
        programs.append(Program(arguments, environment))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.fixture
def serving(database_dsn: str) -> Iterator[StartServing]:
    """Starts coordinators on the test's own database, on a free port unless told otherwise."""
    programs: list[Serving] = []

    def start(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Serving:
        given = list(arguments)
        if "--address" not in given:
            given += ["--address", "127.0.0.1:0"]
        surroundings = {
            "SAGA_DATABASE_URL": database_dsn,
            "SAGA_LEASE_SECONDS": LEASE_SECONDS,
            **(environment or {}),
        }
        programs.append(Serving(given, surroundings))
        return programs[-1].wait_until_serving()

    yield start
    for program in programs:
        program.close()


class Shop(ParticipantServiceServicer):
    """A participant. The method it is asked for says how it behaves."""

    def __init__(self) -> None:
        self.called: queue.Queue[ExecuteRequest | CompensateRequest] = queue.Queue()
        self.may_answer = threading.Event()

    def Execute(self, request: ExecuteRequest, context: grpc.ServicerContext) -> ExecuteResponse:  # noqa: N802
        self.called.put(request)
        if request.method == "refuse":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "sold out")
        if request.method == "away":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if request.method == "hang":
            self.may_answer.wait(PATIENCE_SECONDS)
        if request.method == "later":
            return ExecuteResponse(pending=True)
        output = Value()
        output.struct_value["done"] = request.step
        return ExecuteResponse(output=output)

    def Compensate(self, request: CompensateRequest, context: grpc.ServicerContext) -> CompensateResponse:  # noqa: N802
        self.called.put(request)
        if request.method == "refuse":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "picked already")
        return CompensateResponse()


@contextlib.contextmanager
def participant(servicer: ParticipantServiceServicer) -> Iterator[str]:
    """Serves it; the address."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    add_ParticipantServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def shop_server() -> Iterator[tuple[Shop, str]]:
    """A participant and where it is."""
    shop = Shop()
    with participant(shop) as address:
        yield shop, address
        shop.may_answer.set()


@pytest.fixture
def shop(shop_server: tuple[Shop, str]) -> Shop:
    fresh, _ = shop_server
    fresh.may_answer.clear()
    while not fresh.called.empty():
        fresh.called.get()
    return fresh


@pytest.fixture(scope="module")
def participants_file(shop_server: tuple[Shop, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, address = shop_server
    file = tmp_path_factory.mktemp("participants") / "participants.yaml"
    file.write_text(f'participants: {{shop: {{target: "{address}"}}}}')
    return file


@pytest.fixture(scope="module")
def module_dsn(postgres_server: EmbeddedPostgres, template_database: str) -> Iterator[str]:
    """A database for all tests of a module that share one coordinator."""
    yield from new_database(postgres_server, template_database)


@pytest.fixture(scope="module")
def coordinator(module_dsn: str, participants_file: Path) -> Iterator[Serving]:
    """One coordinator for the tests of a module that only call it. Payloads are limited to 16 KiB."""
    flags = ("--address", "127.0.0.1:0", "--participants", participants_file, "--payload-bytes-max", "16384")
    program = Serving(flags, {"SAGA_DATABASE_URL": module_dsn, "SAGA_LEASE_SECONDS": LEASE_SECONDS})
    try:
        yield program.wait_until_serving()
        program.send(signal.SIGTERM)
        assert program.wait() == 0
    finally:
        program.close()


def repeated(call: Callable[[], _T]) -> _T:
    """What the call returns. It is made again while it is UNAVAILABLE, as callers do: a busy machine may let a lease run out."""

    def ask() -> list[_T]:
        try:
            return [call()]
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return []

    (answer,) = wait_until(ask, "an answer")
    return answer


class Client:
    """Stubs of a running coordinator, and calls that are repeated while it cannot do them."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.definitions = DefinitionServiceStub(self.channel)
        self.sagas = SagaServiceStub(self.channel)

    def define(self, source: dict[str, Any]) -> RegisterDefinitionResponse:
        """Registers a definition that is given in its JSON form."""
        request = RegisterDefinitionRequest(definition=ParseDict(source, Definition()))
        return repeated(lambda: self.definitions.RegisterDefinition(request, timeout=PATIENCE_SECONDS))

    def register(self, name: str, *methods: str, **action: Any) -> None:
        """A definition with a step for each method of the shop. `action`: further fields of the actions, in their JSON form."""
        steps = [
            {
                "name": f"step_{number}",
                "action": {"participant": "shop", "method": method, **action},
                "compensation": {"participant": "shop", "method": "undo"},
            }
            for number, method in enumerate(methods)
        ]
        self.define({"name": name, "steps": steps})

    def start(self, definition: str, key: str = "", given: Any = None, **fields: Any) -> saga_pb2.Saga:
        """Starts a saga with the input `given`, in its JSON form. Its key is the definition's name unless one is named."""
        return repeated(lambda: self.start_now(definition, key, given, **fields))

    def start_now(self, definition: str, key: str = "", given: Any = None, **fields: Any) -> saga_pb2.Saga:
        """The same, asking once."""
        request = StartSagaRequest(definition=definition, start_key=key or definition, **fields)
        if given is not None:
            ParseDict(given, request.input)
        return self.sagas.StartSaga(request, timeout=PATIENCE_SECONDS).saga

    def saga(self, saga_id: str) -> saga_pb2.Saga:
        request = GetSagaRequest(saga_id=saga_id)
        return repeated(lambda: self.sagas.GetSaga(request, timeout=PATIENCE_SECONDS)).saga

    def settled(self, saga_id: str) -> saga_pb2.Saga:
        """The saga, once nothing more moves by itself."""
        request = WaitSagaRequest(saga_id=saga_id)
        answer = repeated(lambda: self.sagas.WaitSaga(request, timeout=PATIENCE_SECONDS))
        assert answer.settled
        return answer.saga

    def await_entry(self, saga_id: str, entry_type: str, step: str) -> None:
        """Watches the log of the saga until it has such an entry."""
        watch = self.sagas.WatchSaga(WatchSagaRequest(saga_id=saga_id), timeout=PATIENCE_SECONDS)
        entries = (entry for answer in watch for entry in answer.entries)
        assert any((entry.entry_type, entry.step) == (entry_type, step) for entry in entries)
        watch.cancel()

    def cancel(self, saga_id: str) -> None:
        """Cancels the saga, however long its owner takes to hear of it."""
        wait_until(lambda: not self.cancel_now(saga_id), "the cancellation")

    def cancel_now(self, saga_id: str) -> str:
        """Why the coordinator cannot cancel it now, if it is UNAVAILABLE; empty when it was done."""
        request = CancelSagaRequest(saga_id=saga_id, reason="changed my mind")
        call = self.sagas.CancelSaga.future(request, timeout=PATIENCE_SECONDS)
        if call.exception() is None:
            return ""
        assert call.code() is grpc.StatusCode.UNAVAILABLE, call.details()
        return str(call.details())

    def watch_health(self, service: str = "") -> Any:
        """The health of a service, each time that it changes."""
        request = health_pb2.HealthCheckRequest(service=service)
        stub: Any = HealthStub(self.channel)
        return stub.Watch(request, timeout=PATIENCE_SECONDS)

    def health(self, service: str = "") -> str:
        """The health of a service as it is now."""
        request = health_pb2.HealthCheckRequest(service=service)
        stub: Any = HealthStub(self.channel)
        answer = stub.Check(request, timeout=PATIENCE_SECONDS)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.fixture
def client(coordinator: Serving) -> Iterator[Client]:
    connected = Client(coordinator.address)
    yield connected
    connected.channel.close()


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    """Connects to addresses until the test's end."""
    clients: list[Client] = []

    def to(address: str) -> Client:
        clients.append(Client(address))
        return clients[-1]

    yield to
    for each in clients:
        each.channel.close()
