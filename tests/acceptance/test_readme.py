"""What README.md and docs/running.md tell their reader to type does what they say."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml

from saga_coordinator.config import OPTIONS
from saga_coordinator.participants.directory.addresses import Directory
from saga_coordinator.saga.words.outcome import REFUSING_STATUSES
from tests.acceptance.conftest import ROOT
from tests.eventually import PATIENCE_SECONDS, wait_until

BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text("utf-8")
RUNNING = (ROOT / "docs" / "running.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BACKGROUND = ("python travel.py", "saga-coordinator dev")
"""What the reader starts in a terminal of its own."""


def section(title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@dataclass
class Reader:
    """Types what the tutorial says, in an empty folder; only the ports are others, since these may be in use here."""

    folder: Path
    ports: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]]

    def typed(self, text: str) -> str:
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGA_", "GRPC_"))}
        return {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients' / 'python'}",
            # `dev` and the commands that ask it listen and look there by default, without being told.
            "SAGA_ADDRESSES": self.typed("127.0.0.1:7242"),
            "BUF_CACHE_DIR": str(ROOT / ".cache" / "buf"),
        }

    def save(self, text: str) -> None:
        name = text.partition("\n")[0].removeprefix("# ")
        (self.folder / name).write_text(self.typed(text), encoding="utf-8")

    def start(self, command: str) -> None:
        """In the background, until it serves."""
        with (self.folder / "background.log").open("ab") as log:
            self.running[command] = subprocess.Popen(
                self.typed(command).split(), cwd=self.folder, env=self.environment(), stdout=log, stderr=log
            )
        port = self.ports["7301" if command.startswith("python") else "7242"]

        def is_serving() -> bool:
            assert self.running[command].poll() is None, (self.folder / "background.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
                return True
            return False

        wait_until(is_serving, f"{command} to serve")

    def stop(self, command: str) -> None:
        process = self.running.pop(command)
        process.terminate()
        process.wait(PATIENCE_SECONDS)

    def begin(self, commands: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-ec", self.typed(commands)],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, commands: str) -> str:
        return finish(self.begin(commands))


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    return out


def shows(expected: str, out: str) -> bool:
    """Whether `out` is what the README shows, in which a line of `...` stands for any lines.

    Spaces around lines do not count, nor does the number before a line that follows such a gap.
    """
    expected, out = ("".join(f"{line.strip()}\n" for line in text.splitlines()) for text in (expected, out))
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*?(?:\d+ )?".join(parts), out) is not None


@pytest.fixture
def reader(postgres_folder: Path) -> Iterator[Reader]:
    folder = postgres_folder / "readme"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        ports = [str(each.getsockname()[1]) for each in taken]
    reader = Reader(folder, dict(zip(("7242", "7301"), ports, strict=True)), {})
    yield reader
    for command in list(reader.running):
        reader.stop(command)


@pytest.mark.skipif(
    not all((BIN / name).exists() for name in ("saga-coordinator", "buf")),
    reason="the programs are not installed in this environment",
)
def test_the_tutorial(reader: Reader) -> None:
    blocks = BLOCK.findall(section("Five minutes"))
    assert blocks.pop(0)[1].startswith("make demo")
    for number, (language, text) in enumerate(blocks):
        following = blocks[number + 1] if number + 1 < len(blocks) else ("", "")
        if language in {"python", "yaml"}:
            reader.save(text)
        elif language == "text":
            continue
        elif text.startswith(BACKGROUND):
            reader.start(text.strip())
        else:
            out = _without_the_participant(reader, text) if "trip-3" in text else reader.run(text)
            if following[0] == "text":
                assert shows(following[1], out), out


def _without_the_participant(reader: Reader, commands: str) -> str:
    """As the text says: it is stopped before, and started anew meanwhile."""
    reader.stop("python travel.py")
    booking = reader.begin(commands)
    _await_attempts(reader)
    reader.start("python travel.py")
    return finish(booking)


def _await_attempts(reader: Reader) -> None:
    """Until the coordinator has seen that nobody is there."""
    request = '{"start_key": "trip-3", "include_log": true}'
    address = reader.typed("http://127.0.0.1:7242/saga.v1.SagaService/GetSaga")
    curl = f"buf curl --protocol grpc --http2-prior-knowledge -d '{request}' {address} || true"
    wait_until(lambda: "attempt_unknown" in reader.run(curl), "an attempt to be made")


def test_the_table_of_outcomes_is_the_programs_own() -> None:
    refused = next(
        line for line in section("What a participant's answer means").splitlines() if "REFUSED" in line
    )
    named = {code.name for code in grpc.StatusCode} & set(re.findall(r"`([A-Z_]+)`", refused))
    assert named == REFUSING_STATUSES


def test_the_participants_file_is_valid_but_for_its_certificates(tmp_path: Path) -> None:
    (block,) = [text for language, text in BLOCK.findall(RUNNING) if language == "yaml"]
    directory = yaml.safe_load(block)
    del directory["participants"]["payments"]["tls"]
    file = tmp_path / "participants.yaml"
    file.write_text(yaml.safe_dump(directory))
    assert Directory.load(file).names == {"inventory", "payments", "shipping"}


def test_what_it_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes-sidecar.yaml"])
def test_the_deployments_name_settings_that_there_are(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text("utf-8")
    known = {option.variable for option in OPTIONS}
    assert set(re.findall(r"\b(SAGA_[A-Z_]+)(?=[:,])", text)) - {"SAGA_COORDINATOR"} <= known
    documents = list(yaml.safe_load_all(text))
    assert all(isinstance(document, dict) for document in documents)
