"""The files that directory entries name: regular, small, inside the folder where a caller names them, and nothing ever waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from saga_coordinator.participants.directory.addresses import Directory, InvalidDirectory
from saga_coordinator.participants.directory.files import CallersFiles, OwnFiles, Unreadable, read_regular
from saga_coordinator.saga.words.errors import Fault


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    assert read_regular(tmp_path / "a", 100_000) == b"x" * 100_000
    assert read_regular(Path("/proc/self/stat"), 100_000)  # says that it is empty


@pytest.mark.parametrize("device", ["/dev/ptmx", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/self"])
def test_nothing_but_regular_files_is_read(device: str) -> None:
    with pytest.raises(Unreadable, match=r"is not a regular file|cannot be read"):
        read_regular(Path(device), 1000)


def test_a_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """To open one may do something: it makes a terminal, rewinds a tape, starts a watchdog."""
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(Unreadable, match="is not a regular file"):
        read_regular(Path("/dev/ptmx"), 1000)


def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the name and the opening."""
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"x")
    os.mkfifo(pipe)
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _, flags: opened(pipe, flags))
    with pytest.raises(Unreadable, match="is not a regular file"):
        read_regular(file, 1000)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1001)
    with pytest.raises(Unreadable, match="has 1001 bytes; 1000 is the limit"):
        read_regular(tmp_path / "large", 1000)


def test_a_file_that_says_nothing_of_its_size_is_cut_off() -> None:
    with pytest.raises(Unreadable, match="has more than 10 bytes"):
        read_regular(Path("/proc/self/status"), 10)


# Named by callers.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that callers may name files in, with one beside it that they may not."""
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "ca.pem").write_bytes(b"roots")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "tls"


def told(files: CallersFiles, name: str) -> tuple[bytes | None, list[str]]:
    faults: list[Fault] = []
    content = files.read(name, "participant.tls.ca_file", 1000, faults)
    return content, [fault.description.replace(name, "NAME") for fault in faults]


def test_callers_may_name_what_is_in_the_folder(folder: Path) -> None:
    assert told(CallersFiles(folder), str(folder / "ca.pem")) == (b"roots", [])


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    """As Kubernetes mounts secrets: `ca.crt -> ..data/ca.crt`, `..data -> ..2026_11_29`."""
    (folder / "..2026_11_29").mkdir()
    (folder / "..2026_11_29" / "ca.crt").write_bytes(b"mounted")
    (folder / "..data").symlink_to("..2026_11_29")
    (folder / "ca.crt").symlink_to("..data/ca.crt")
    assert told(CallersFiles(folder), str(folder / "ca.crt")) == (b"mounted", [])


def test_a_folder_that_is_a_link_is_the_one_it_leads_to(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert told(CallersFiles(link), str(link / "ca.pem")) == (b"roots", [])
    assert told(CallersFiles(link), str(folder / "ca.pem")) == (b"roots", [])


def test_all_that_will_not_do_is_told_alike(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "out").symlink_to(folder.parent / "secret")
    (folder / "large").write_bytes(b"x" * 1001)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    inside = ("missing", "folder", "out", "large", "loop", "pipe", "../secret")
    outside = ("/etc/passwd", "/no/such/file", "/dev/ptmx", "/dev/zero", f"{folder}-beside/ca.pem")
    names = [*(str(folder / name) for name in inside), str(folder.parent / "secret"), *outside]
    with capture_logs() as logs:
        answers = [told(CallersFiles(folder), name) for name in names]
    assert {content for content, _ in answers} == {None}
    assert len({tuple(faults) for _, faults in answers}) == 1
    assert "--tls-folder" in answers[0][1][0]
    assert [line["path"] for line in logs if line["event"] == "participant_file_refused"] == names


def test_without_a_folder_no_file_may_be_named(folder: Path) -> None:
    answers = [told(CallersFiles(None), name) for name in (str(folder / "ca.pem"), "/no/such/file")]
    assert answers[0] == answers[1]
    assert answers[0][0] is None
    assert "--tls-folder" in answers[0][1][0]


# Named by the operator.


def test_the_operators_own_files_may_be_anywhere_and_are_told_as_they_are(folder: Path) -> None:
    faults: list[Fault] = []
    assert OwnFiles(folder).read("../secret", "participants.a.tls.ca_file", 1000, faults) == b"secret"
    assert OwnFiles(folder).read("/dev/zero", "participants.a.tls.ca_file", 1000, faults) is None
    assert [str(fault) for fault in faults] == ["participants.a.tls.ca_file: /dev/zero is not a regular file"]


@pytest.mark.parametrize("entry", ["tls: {ca_file: /dev/zero}", "descriptor_set: /dev/zero"])
def test_a_participants_file_that_names_a_device_is_faulty(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "participants.yaml"
    path.write_text(f"participants: {{a: {{target: 'a:1', {entry}}}}}\n")
    with pytest.raises(InvalidDirectory, match="/dev/zero is not a regular file"):
        Directory.load(path)
