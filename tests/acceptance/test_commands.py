"""The program's commands: help, wrong usage, definitions from files, and ends without a word too many."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import grpc
import pytest

from saga_coordinator import __version__
from saga_coordinator.cli.options import settings_of
from saga_coordinator.cli.serving import DEV_DEFAULTS
from saga_coordinator.config import OPTIONS
from saga_coordinator.pb.saga.v1.saga_service_pb2 import StartSagaRequest
from saga_coordinator.pb.saga.v1.saga_service_pb2_grpc import SagaServiceStub
from tests.acceptance.conftest import ROOT, Serving, StartProgram, fails_with, run_here, run_program
from tests.eventually import PATIENCE_SECONDS, wait_until

EXAMPLE = ROOT / "examples" / "order_fulfilment" / "definition.yaml"
COMMANDS = ["definition", "demo", "dev", "health", "migrate", "postgres", "serve", "version"]
VERBS = [
    "apply",
    "default",
    "delete",
    "deprecate",
    "diff",
    "explain",
    "get",
    "lint",
    "list",
    "simulate",
    "validate",
]
# Nothing listens there: the port is reserved, and nobody may without being root.
NOWHERE = "127.0.0.1:1"


def test_help_lists_the_commands() -> None:
    done = run_here("--help")
    assert done.returncode == 0
    listed = done.stdout.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "] == COMMANDS


@pytest.mark.parametrize(
    "command",
    [[name] for name in COMMANDS if name != "demo"] + [["definition", verb] for verb in VERBS],
    ids=" ".join,
)
def test_every_command_explains_itself(command: list[str]) -> None:
    done = run_here(*command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith(f"Usage: saga-coordinator {' '.join(command)}")


def test_the_help_of_serve_is_complete() -> None:
    text = " ".join(run_here("serve", "--help").stdout.split())
    for option in OPTIONS:
        assert f"{option.flag} {option.metavar}" in text
        assert f"[env: {option.variable}" in text
        if option.default:
            assert f"default: {option.default}]" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Usage: saga-coordinator"),
        (["sreve"], "No such command 'sreve'. Did you mean 'serve'?"),
        (["serve", "--adress", "x"], "'--address'"),
        (["serve", "extra"], "unexpected extra argument"),
        (["definition", "apply"], "Missing argument 'FILE...'"),
        (["postgres"], "Missing option '--data-dir'"),
        (["health", "--address", "nowhere"], "must be HOST:PORT"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    done = run_here(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Error:" not in done.stderr
    if arguments:
        assert done.stderr.splitlines()[-1].startswith("error: ")


def test_wrong_settings_are_all_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "saga.toml"
    file.write_text("lease_seconds = 'long'\n")
    done = run_here(
        "serve",
        "--pool-size",
        "0",
        "--config",
        file,
        environment={"SAGA_LOG_LEVEL": "loud", "SAGA_ADDRESSES": "x"},
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    for line, part in zip(
        lines,
        [
            "--database-url is missing",
            "SAGA_ADDRESSES is 'x'",
            f"{file}: lease_seconds",
            "--pool-size",
            "SAGA_LOG_LEVEL",
        ],
        strict=True,
    ):
        assert line.startswith("error: ")
        assert part in line


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_version(asked: str) -> None:
    assert run_here(asked).stdout == f"saga-coordinator {__version__}\n"


@pytest.mark.parametrize("group", [[], ["definition"]], ids=["program", "definition"])
def test_no_command_is_described_in_half_a_sentence(group: list[str]) -> None:
    listed = run_here(*group, "--help", environment={"COLUMNS": "80"}).stdout.split("Commands:")[1]
    for line in listed.strip().splitlines():
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_what_cannot_be_written_is_said_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "saga_coordinator", "definition", "validate", EXAMPLE],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "error: the output cannot be written: No space left on device\n",
    )


@pytest.mark.parametrize("arguments", [["definition", "validate", EXAMPLE], ["--help"], ["serve", "--help"]])
def test_what_nobody_reads_ends_quietly(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "saga_coordinator", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_it_runs_with_all_standard_streams_closed(tmp_path: Path) -> None:
    """What it reads must not get the number of standard error, and be written to."""
    file = tmp_path / "definition.yaml"
    file.write_text(EXAMPLE.read_text())
    command = f"exec {sys.executable} -m saga_coordinator definition validate {file} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert file.read_text() == EXAMPLE.read_text()


def test_health_without_a_coordinator() -> None:
    assert f"nothing answers at {NOWHERE}" in fails_with("health", "--address", NOWHERE, run=run_here)


def test_the_example_is_valid() -> None:
    done = run_here("definition", "validate", EXAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{EXAMPLE}: order-fulfilment is valid\n"


def test_a_definition_from_standard_input() -> None:
    done = run_program("definition", "validate", "-", stdin=EXAMPLE.read_text())
    assert done.stdout == "standard input: order-fulfilment is valid\n"


def test_malformed_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "order.yaml"
    file.write_text("name: order\nsteps:\n  - name: a\n   action: {}\n")
    assert f"{file}:4: is not YAML" in fails_with("definition", "validate", file, run=run_here)


def test_every_fault_of_every_file_is_named_with_its_line(tmp_path: Path) -> None:
    good, bad, worse = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "worse.json"
    good.write_text(EXAMPLE.read_text())
    bad.write_text(
        "name: Order\n"
        "steps:\n"
        "  - name: pay\n"
        "    action: {participant: shop, timeout: 2}\n"
        "    read_only: true\n"
        "    retries: 3\n"
    )
    worse.write_text('{"name": "order",}')
    done = run_here("definition", "validate", good, bad, worse, tmp_path / "absent.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    for part in (
        f"error: {bad}:1: name: ",
        f"error: {bad}:4: steps[0].action.timeout: ",
        f"error: {bad}:6: steps[0].retries: ",
        f"error: {worse}:1: is not JSON: ",
        f"error: {tmp_path / 'absent.yaml'}: cannot be read: ",
    ):
        assert sum(line.startswith(part) for line in done.stderr.splitlines()) == 1, (part, done.stderr)


@pytest.mark.parametrize("command", ["validate", "apply", "lint", "simulate"])
def test_a_number_that_would_change_on_its_way_is_refused(command: str, tmp_path: Path) -> None:
    file = tmp_path / "order.yaml"
    file.write_text(
        "name: order\nsteps:\n  - name: pay\n    read_only: true\n"
        "    action: {participant: shop, input: {account: 9007199254740993}}\n"
    )
    done = run_here("definition", command, file)
    assert done.returncode == 1
    assert (
        f"{file}:5: steps[0].action.input.account: 9007199254740993 cannot be kept as a number" in done.stderr
    )
    assert "write it as a string, in quotes" in done.stderr


def test_what_the_parser_takes_the_contract_takes_too(tmp_path: Path) -> None:
    """`validate` asks both, so that it never says yes to what `apply` cannot send."""
    file = tmp_path / "order.yaml"
    step = {"name": "pay", "action": {"participant": "shop", "timeout": "2s"}, "readOnly": True}
    file.write_text(json.dumps({"name": "order", "deadline": "1.5s", "steps": [step]}))
    assert run_here("definition", "validate", file).returncode == 0


def test_applying_without_a_coordinator() -> None:
    line = fails_with("definition", "apply", EXAMPLE, "--address", NOWHERE, run=run_here)
    assert f"no coordinator answers at {NOWHERE}" in line


def test_applying(coordinator: Serving, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    first = EXAMPLE.read_text()
    file.write_text(f"{first}\n---\n{first.replace('name: order-fulfilment', 'name: order-again')}")
    done = run_here("definition", "apply", file, environment={"SAGA_ADDRESSES": coordinator.address})
    assert done.stdout == "order-fulfilment version 1 (created)\norder-again version 1 (created)\n", (
        done.stderr
    )
    changed = tmp_path / "changed.yaml"
    changed.write_text(first.replace("deadline: 60s", "deadline: 61s"))
    done = run_here("definition", "apply", EXAMPLE, changed, changed, "--address", coordinator.address)
    assert done.stdout.splitlines() == [
        "order-fulfilment version 1 (unchanged)",
        "order-fulfilment version 2 (created)",
        "order-fulfilment version 2 (unchanged)",
    ]


def test_a_file_with_a_fault_keeps_all_from_being_applied(coordinator: Serving, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: Order\n")
    done = run_here("definition", "apply", EXAMPLE, file, "--address", coordinator.address)
    assert done.returncode == 1
    assert done.stdout == ""


def test_health_of_a_coordinator(coordinator: Serving) -> None:
    for service in ([], ["--service", "saga.v1.SagaService"], ["--service", "saga.v1.DefinitionService"]):
        done = run_here("health", "--address", coordinator.address, *service)
        assert (done.returncode, done.stdout) == (0, "SERVING\n")
    flags = ["--address", coordinator.address, "--service", "nope"]
    line = fails_with("health", *flags, run=run_here)
    assert line == f"error: {coordinator.address} serves no service named nope"


def test_health_of_a_coordinator_costs_little_more_than_python_itself(coordinator: Serving) -> None:
    # Containers ask every few seconds. Time is not measured here: what costs is what is imported.
    program = (
        "import sys, saga_coordinator.cli\n"
        "try: saga_coordinator.cli.main()\n"
        "finally: print(*({'grpc', 'click', 'saga_coordinator.config'} & sys.modules.keys()), file=sys.stderr)"
    )
    service = ["--service", "saga.v1.SagaService"]
    command = [sys.executable, "-c", program, "health", "--address", coordinator.address, *service]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "SERVING\n", "")


def test_health_asks_on_loopback_where_a_coordinator_listens_everywhere(coordinator: Serving) -> None:
    port = coordinator.address.rpartition(":")[2]
    done = run_here("health", environment={"SAGA_ADDRESSES": f"0.0.0.0:{port}"})
    assert done.stdout == "SERVING\n"


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT"])
def test_postgres_says_where_it_is_and_ends_with_its_starter(
    start_program: StartProgram, postgres_folder: Path, end: str
) -> None:
    data_dir = postgres_folder / f"command-{end}"
    program = start_program("postgres", "--data-dir", data_dir)
    line = program.next_line(program.out)
    assert line.startswith("postgres: postgresql://postgres:")
    server = int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    if end == "stdin":
        assert program.popen.stdin is not None
        program.popen.stdin.close()
    else:
        program.send(signal.Signals[end])
    assert program.wait() == 0
    if end == "stdin":
        assert program.next_line(program.err) == "standard input was closed: Postgres is stopped"
    assert program.err.get() is None
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_postgres_runs_on_where_nobody_holds_its_input(postgres_folder: Path) -> None:
    data_dir = postgres_folder / "command-null"
    command = [sys.executable, "-m", "saga_coordinator", "postgres", "--data-dir", str(data_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline().startswith("postgres: ")
        program.terminate()
        assert (program.wait(PATIENCE_SECONDS), program.stderr.read()) == (0, "")


def test_postgres_does_not_outlive_its_server(start_program: StartProgram, postgres_folder: Path) -> None:
    data_dir = postgres_folder / "command-killed"
    program = start_program("postgres", "--data-dir", data_dir)
    program.next_line(program.out)
    os.kill(int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGQUIT)
    assert program.wait() == 1
    assert program.next_line(program.err).startswith("error: Postgres has ended by itself; see ")


def test_dev_makes_a_database_and_serves(start_program: StartProgram, postgres_folder: Path) -> None:
    data_dir = postgres_folder / "dev"
    for is_first in (True, False):  # the second time on what the first has left
        program = start_program("dev", "--data-dir", data_dir, "--address", "127.0.0.1:0")
        said = program.next_line(program.err)
        assert (said == f"making a database in {data_dir}") is is_first
        address = program.wait_for("serving")["addresses"][0]
        welcome = [program.next_line(program.out) for _ in range(9)]
        assert any(address in line for line in welcome)
        assert any("postgresql://" in line for line in welcome)
        assert run_here("health", "--address", address).stdout == "SERVING\n"
        program.send(signal.SIGINT)
        assert program.wait() == 0
    assert (data_dir / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("environment", "is_told"), [({}, True), ({"SAGA_LOG_SAGAS": "false"}, False)])
def test_dev_tells_of_sagas_unless_told_otherwise(environment: dict[str, str], is_told: bool) -> None:
    with mock.patch.dict(os.environ, environment):
        flags = {"config": None}
        settings = settings_of(flags, defaults=DEV_DEFAULTS, database_url="postgresql://here/")
        assert settings.log_sagas is is_told
        assert settings_of(flags, database_url="postgresql://here/").log_sagas is False


def test_dev_with_a_setting_that_is_wrong_starts_nothing(tmp_path: Path) -> None:
    done = run_here("dev", "--data-dir", tmp_path / "data", "--pool-size", "x")
    assert done.returncode == 2
    assert "--pool-size is 'x'" in done.stderr
    assert not (tmp_path / "data").exists()


def test_dev_with_a_faulty_participants_file_makes_no_database(tmp_path: Path) -> None:
    file = tmp_path / "participants.yaml"
    file.write_text("participants: {inventory: {target: 'nowhere://x'}}\n")
    flags = ("--data-dir", tmp_path / "data", "--address", "127.0.0.1:0", "--participants", file)
    line = fails_with("dev", *flags, run=run_here)
    assert "inventory" in line
    assert not (tmp_path / "data").exists()


def test_dev_names_a_database_that_has_died_and_starts_it_again(
    start_program: StartProgram, postgres_folder: Path
) -> None:
    data_dir = postgres_folder / "dev-died"
    program = start_program("dev", "--data-dir", data_dir, "--address", "127.0.0.1:0", "--log-format", "json")
    address = program.wait_for("serving")["addresses"][0]
    os.kill(int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    said = program.wait_for("embedded_postgres")["reason"]
    assert said.startswith("Postgres has ended: ")
    assert "server.log" in said
    assert program.wait_for("embedded_postgres")["reason"] == "Postgres is running again"
    health = ("health", "--address", address, "--service", "saga.v1.SagaService")
    wait_until(lambda: run_here(*health).returncode == 0, "it to serve again")
    program.send(signal.SIGINT)
    assert program.wait() == 0


def test_dev_obeys_although_its_database_is_gone_for_good(
    start_program: StartProgram, postgres_folder: Path, tmp_path: Path
) -> None:
    """What a call that hangs may come to cannot be written down any more, so that nobody waits for it."""
    data_dir, participants, definition = (
        postgres_folder / "dev-gone",
        tmp_path / "p.yaml",
        tmp_path / "d.yaml",
    )
    action = "{participant: hung, method: x, timeout: 3000s}"
    definition.write_text(f"name: hung\nsteps:\n  - {{name: a, read_only: true, action: {action}}}\n")
    with socket.create_server(("127.0.0.1", 0)) as hung:
        participants.write_text(f"participants: {{hung: {{target: '127.0.0.1:{hung.getsockname()[1]}'}}}}\n")
        flags = ("--address", "127.0.0.1:0", "--log-format", "json", "--grace-seconds", "3600")
        program = start_program("dev", "--data-dir", data_dir, "--participants", participants, *flags)
        address = program.wait_for("serving")["addresses"][0]
        assert run_here("definition", "apply", definition, "--address", address).returncode == 0
        with grpc.insecure_channel(address) as channel:
            SagaServiceStub(channel).StartSaga(StartSagaRequest(definition="hung", start_key="1"), timeout=60)
        assert program.wait_for("saga_started")["start_key"] == "1"
        server = int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])
        (data_dir / "cluster").rename(data_dir / "gone")
        (data_dir / "cluster").write_text("no folder")
        os.kill(server, signal.SIGKILL)
        while "cannot be started again" not in program.wait_for("embedded_postgres")["reason"]:
            pass
        program.send(signal.SIGINT)
        assert program.wait() == 0


@pytest.mark.parametrize(
    "command",
    [
        ("definition", "explain", EXAMPLE, "--svg", "{folder}/missing/out.svg"),
        ("definition", "simulate", EXAMPLE, "--json", "{folder}/missing/out.json"),
        ("demo", "--dir", "{folder}/file/demo"),
        ("postgres", "--data-dir", "{folder}/file/data"),
        ("dev", "--data-dir", "{folder}/file/data", "--address", "127.0.0.1:0"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path, command: tuple[str | Path, ...]) -> None:
    (tmp_path / "file").write_text("no folder")
    arguments = [str(argument).format(folder=tmp_path) for argument in command]
    done = run_program(*arguments)
    assert done.returncode == 1
    said = (done.stderr + done.stdout).strip()
    assert "Traceback" not in said
    assert str(tmp_path) in said
    assert "No such file or directory" in said or "Not a directory" in said


def test_dev_on_an_occupied_port_makes_no_database(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        address = f"127.0.0.1:{occupied.getsockname()[1]}"
        line = fails_with("dev", "--data-dir", tmp_path / "data", "--address", address, run=run_here)
    assert line.startswith(f"error: cannot listen on {address}: address already in use; end the process")
    assert not (tmp_path / "data").exists()


def test_dev_ends_with_its_terminal(postgres_folder: Path) -> None:
    data_dir = postgres_folder / "terminal"
    terminal, inside = pty.openpty()
    # The first terminal that a session's leader opens is the session's own, and its end is told to the leader.
    enter = 'exec <>"$0" >&0 2>&0; exec "$@"'
    command = ["sh", "-c", enter, os.ttyname(inside), sys.executable, "-m", "saga_coordinator", "dev"]
    with subprocess.Popen(
        [*command, "--data-dir", data_dir, "--address", "127.0.0.1:0"], start_new_session=True
    ) as program:
        try:
            with open(terminal, encoding="utf-8") as screen:  # noqa: PTH123  # a descriptor has no path
                for line in screen:
                    if "Ctrl-C stops it" in line:
                        break
                os.close(inside)  # not sooner: a terminal that nobody has open cannot be read
                server = int((data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0])
            assert program.wait(PATIENCE_SECONDS) == 0
        finally:
            program.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
