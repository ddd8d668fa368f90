"""What sagactl says and how it ends on bad days: wrong addresses, TLS, tokens, restarts, readers that go away, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from saga_coordinator.pb.saga.v1 import saga_pb2, saga_service_pb2
from sagactl.endings import Ending
from tests.acceptance.conftest import Serving, StartServing
from tests.eventually import PATIENCE_SECONDS, wait_until
from tests.sagactl_runs import command, environment_of, on_terminal, run_here

SERVICES = ("saga.v1.SagaService", "grpc.reflection.v1alpha.ServerReflection")
NAME = "sagas.internal"


class Many:
    """Has a hundred thousand sagas, and counts the pages that were asked for."""

    TOTAL, PAGE = 100_000, 1000

    def __init__(self) -> None:
        self.pages = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Serves the only method that there is."""
        listing = grpc.unary_unary_rpc_method_handler(
            self._page,
            saga_service_pb2.ListSagasRequest.FromString,
            saga_service_pb2.ListSagasResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("saga.v1.SagaService", {"ListSagas": listing})

    def _page(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.pages += 1
        begin = int(request.page_token or 0)
        end = min(begin + self.PAGE, self.TOTAL)
        sagas = [
            saga_pb2.Saga(saga_id=f"saga-{number}", definition="order", version=1)
            for number in range(begin, end)
        ]
        token = str(end) if end < self.TOTAL else ""
        return saga_service_pb2.ListSagasResponse(sagas=sagas, next_page_token=token)


class Guard(grpc.ServerInterceptor):
    """Takes one token only."""

    def __init__(self) -> None:
        self.token = "fresh"

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        if ("authorization", f"Bearer {self.token}") in details.invocation_metadata:
            return continuation(details)
        return grpc.stream_stream_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
        )


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Many, str]]]:
    """Starts servers of a hundred thousand sagas, which the test's end stops."""
    servers: list[grpc.Server] = []

    def start(
        *interceptors: grpc.ServerInterceptor, credentials: grpc.ServerCredentials | None = None
    ) -> tuple[Many, str]:
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=list(interceptors))
        many = Many()
        server.add_generic_rpc_handlers([many.handler()])
        enable_server_reflection(SERVICES, server)
        place = "127.0.0.1:0"
        port = (
            server.add_insecure_port(place)
            if credentials is None
            else server.add_secure_port(place, credentials)
        )
        server.start()
        servers.append(server)
        return many, f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca.pem`; `server` and `client`, signed by it; and `other-ca.pem`, which signed neither. The server is called `NAME`."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)

    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    try:
        for ca in ("ca", "other-ca"):
            openssl(f"req -x509 {new_key} -subj /CN={ca} -keyout {ca}.key -out {ca}.pem")
    except FileNotFoundError:
        pytest.skip("making certificates needs the openssl program")
    for name in ("server", "client"):
        openssl(
            f"req -x509 {new_key} -subj /CN={name} -addext subjectAltName=DNS:{NAME} "
            f"-CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem"
        )
    return folder


def credentials_in(folder: Path, *, is_strict: bool = False) -> grpc.ServerCredentials:
    pair = (folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes()
    roots = (folder / "ca.pem").read_bytes() if is_strict else None
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=is_strict)


def fails(*arguments: str | Path, ending: Ending = Ending.UNAVAILABLE) -> str:
    """The one line that says what is wrong."""
    done = run_here(*arguments)
    assert done.returncode == ending, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    assert f"nothing listens at {address}" in fails("sagas", "list", "--address", address)
    assert "nothing listens at unix:/nonexistent.sock" in fails(
        "sagas", "list", "--address", "unix:/nonexistent.sock"
    )
    assert "is no address" in fails("sagas", "list", "--address", "nonsense", ending=Ending.USAGE)


def test_a_web_server() -> None:
    class Page(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        line = fails("sagas", "list", "--address", f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert "does not answer as a gRPC server" in line


def test_what_listens_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        line = fails("sagas", "list", "--address", address, "--timeout", "1s")
    assert address in line


def test_tls_in_all_its_ways(serve: Callable[..., tuple[Many, str]], certificates: Path) -> None:
    _, plain = serve()
    _, secured = serve(credentials=credentials_in(certificates))
    _, strict = serve(credentials=credentials_in(certificates, is_strict=True))
    ca = ("--ca-file", certificates / "ca.pem", "--server-name", NAME)
    own = ("--cert-file", certificates / "client.pem", "--key-file", certificates / "client.key")
    listing = ("sagas", "list", "--limit", "1")
    assert run_here(*listing, "--address", secured, *ca).returncode == 0
    assert run_here(*listing, "--address", strict, *ca, *own).returncode == 0
    assert "does not speak TLS" in fails(*listing, "--address", plain, *ca)
    assert "speaks TLS; say --tls" in fails(*listing, "--address", secured)
    other = ("--ca-file", certificates / "other-ca.pem", "--server-name", NAME)
    assert "is not trusted" in fails(*listing, "--address", secured, *other)
    assert "is not trusted" in fails(*listing, "--address", secured, "--ca-file", certificates / "ca.pem")
    assert run_here(*listing, "--address", strict, *ca).returncode == Ending.UNAVAILABLE
    assert "both --cert-file and --key-file" in fails(*listing, *own[:2], ending=Ending.USAGE)


def test_a_token_that_expires_is_asked_for_again(
    serve: Callable[..., tuple[Many, str]], tmp_path: Path
) -> None:
    guard = Guard()
    _, address = serve(guard)
    tokens = tmp_path / "tokens"
    tokens.write_text("stale\nfresh\n")
    script = tmp_path / "token.sh"
    script.write_text(f'#!/bin/sh\nhead -1 "{tokens}"\nsed -i 1d "{tokens}"\n')
    script.chmod(0o755)
    listing = ("sagas", "list", "--limit", "1", "--address", address)
    done = run_here(*listing, "--token-command", script)
    assert done.returncode == 0, done
    line = fails(*listing, ending=Ending.DENIED)
    assert "the token has expired" in line
    (tmp_path / "token").write_text("fresh\n")
    assert run_here(*listing, "--token-file", tmp_path / "token").returncode == 0
    silent = fails(*listing, "--token-command", "true", ending=Ending.USAGE)
    assert "must print one token" in silent
    assert "the token has expired" in fails(*listing, "--token-command", "date +%N", ending=Ending.DENIED)


def test_a_hundred_thousand_rows_into_head(serve: Callable[..., tuple[Many, str]]) -> None:
    many, address = serve()
    listing = command("sagas", "list", "--all", "--address", address, "-o", "jsonl", "--fields", "saga_id")
    with subprocess.Popen(
        listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment_of(), text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert json.loads(program.stdout.readline()) == {"saga_id": "saga-0"}
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(PATIENCE_SECONDS) == Ending.UNREAD
    assert many.pages < Many.TOTAL / Many.PAGE


def test_people_get_the_first_hundred_rows_and_programs_all(serve: Callable[..., tuple[Many, str]]) -> None:
    many, address = serve()
    assert len(run_here("sagas", "list", "--address", address).stdout.splitlines()) == 101
    assert many.pages <= 2
    assert (
        len(run_here("sagas", "list", "--address", address, "-o", "jsonl").stdout.splitlines()) == Many.TOTAL
    )


APPROVAL = "name: approval\nsteps: [{name: ask, approval: {}}]"


def start_of(address: str) -> str:
    """A saga that waits for a person."""
    assert run_here("apply", "-f", "-", "--address", address, stdin=APPROVAL).returncode == 0
    started = run_here(
        "sagas", "start", "approval", "--address", address, "--fields", "saga.saga_id", "--timeout", "60s"
    )
    return started.stdout.strip()


def test_watch_goes_on_across_a_restart(serving: StartServing) -> None:
    before = serving()
    saga = start_of(before.address)
    with on_terminal("sagas", "watch", saga, "--address", before.address, "--ascii") as watching:
        watching.read_until("waits")
        before.send(signal.SIGKILL)
        before.wait()
        watching.read_until("watching again from entry")
        after = serving("--address", before.address)
        watching.read_until("the server is back")
        approve = ("approvals", "approve", saga, "ask", "--address", after.address, "--timeout", "60s")
        wait_until(
            lambda: run_here(*approve).returncode == 0, "the approval by the coordinator that took over"
        )
        code, shown = watching.wait()
    assert code == Ending.DONE
    assert shown.count("the saga started") == 1
    assert f"{saga} is COMPLETED" in shown


def test_a_script_waits_on_across_a_restart(serving: StartServing) -> None:
    before = serving()
    saga = start_of(before.address)
    with on_terminal("wait", saga, "--address", before.address) as waiting:
        waiting.read_until("; waiting")
        before.send(signal.SIGKILL)
        before.wait()
        waiting.read_until("waiting on")
        after = serving("--address", before.address)
        approve = ("approvals", "approve", saga, "ask", "--address", after.address, "--timeout", "60s")
        wait_until(
            lambda: run_here(*approve).returncode == 0, "the approval by the coordinator that took over"
        )
        code, shown = waiting.wait()
    assert (code, "is COMPLETED" in shown) == (Ending.DONE, True)


@pytest.mark.parametrize(
    "words", ["sagas watch SAGA", "wait SAGA", "wait SAGA --for completed", "top --every 1h"]
)
def test_ctrl_c_ends_quietly(coordinator: Serving, words: str) -> None:
    saga = start_of(coordinator.address)
    arguments = words.replace("SAGA", saga).split()
    with on_terminal(*arguments, "--address", coordinator.address) as program:
        if arguments[0] != "wait":
            program.read_until("waits" if arguments[0] == "sagas" else "running")
        else:
            wait_until(lambda: _is_connected(program.popen.pid), "the connection to the server")
        program.popen.send_signal(signal.SIGINT)
        code, shown = program.wait()
    assert code == Ending.INTERRUPTED, shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("module", ["click", "grpc"])
def test_ctrl_c_while_modules_are_imported_ends_quietly(module: str, tmp_path: Path) -> None:
    """The module that stands in for the real one presses Ctrl-C, and would go on for long."""
    pressed = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(600)"
    (tmp_path / f"{module}.py").write_text(pressed)
    surroundings = environment_of()
    surroundings["PYTHONPATH"] = f"{tmp_path}:{surroundings['PYTHONPATH']}"
    done = subprocess.run(
        command("health"),
        capture_output=True,
        text=True,
        env=surroundings,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def _is_connected(pid: int) -> bool:
    import psutil  # noqa: PLC0415

    return any(each.status == psutil.CONN_ESTABLISHED for each in psutil.Process(pid).net_connections("tcp"))


def test_a_terminal_of_forty_columns(coordinator: Serving) -> None:
    saga = start_of(coordinator.address)
    for words in ("sagas list", f"sagas show {saga}", "participants list", "acts", "doctor", "top --times 1"):
        with on_terminal(*words.split(), "--address", coordinator.address, columns=40) as program:
            code, shown = program.wait()
        assert code == 0, shown
        plain = re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", shown)
        assert max(map(len, plain.splitlines())) <= 40, plain


def test_without_unicode_and_without_colours(coordinator: Serving) -> None:
    saga = start_of(coordinator.address)
    drawing = ("sagas", "show", saga, "--address", coordinator.address)
    for surroundings in ({"LANG": "C"}, {"LC_ALL": "POSIX"}):
        assert run_here(*drawing, environment=surroundings).stdout.isascii()
    assert not run_here(*drawing).stdout.isascii()
    with on_terminal(*drawing) as program:
        assert "\x1b[" in program.wait()[1]
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with on_terminal(*drawing, environment=environment) as program:
            assert "\x1b[" not in program.wait()[1]
    assert "\x1b[" not in run_here(*drawing).stdout
    assert "\x1b[" in run_here(*drawing, "--color", "always").stdout


def test_a_person_is_asked_and_a_script_is_not(coordinator: Serving) -> None:
    saga = start_of(coordinator.address)
    cancel = (
        "sagas",
        "cancel",
        saga,
        "--reason",
        "a drill",
        "--address",
        coordinator.address,
        "--timeout",
        "60s",
    )
    told = fails(*cancel, ending=Ending.USAGE)
    assert "--yes" in told
    assert "--dry-run" in told
    planned = run_here(*cancel, "--dry-run")
    assert "the saga would be COMPENSATED" in planned.stdout
    for answer, ending in (("n", Ending.NO), ("y", Ending.DONE)):
        with on_terminal(*cancel) as program:
            program.read_until("Go on?")
            program.type(f"{answer}\n")
            code, shown = program.wait()
        assert code == ending, shown
        assert "the saga would be COMPENSATED" in shown
    assert run_here("wait", saga, "--for", "compensated", "--address", coordinator.address).returncode == 0
