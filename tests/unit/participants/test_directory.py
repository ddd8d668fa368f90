"""The directory file: what it says, and that every fault in it is told at once, with its place."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from saga_coordinator.participants.directory.addresses import Directory, InvalidDirectory, Participant
from saga_coordinator.participants.directory.descriptors import DescriptorSet
from saga_coordinator.participants.directory.limits import BreakerLimits, ParticipantLimits
from saga_coordinator.participants.directory.tls import Tls
from saga_coordinator.saga.words.errors import InvalidRequest


def write(folder: Path, text: str, name: str = "participants.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(InvalidDirectory) as caught:
        Directory.load(path)
    assert isinstance(caught.value, InvalidRequest)
    return [str(fault).replace(f"{path.parent}/", "") for fault in caught.value.faults]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """`client.pem` and `client.key`, which belong together."""
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client -days 2"
    )
    try:
        subprocess.run(
            [*make.split(), "-keyout", "client.key", "-out", "client.pem"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("making certificates needs the openssl program")
    return tmp_path / "client.pem"


def test_participants_are_found_by_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        participants:
          inventory: {target: "dns:///inventory:50051"}
          payments.v2:
            target: 127.0.0.1:443
            tls: false
        """,
    )
    known = Directory.load(path)
    assert known.names == {"inventory", "payments.v2"}
    assert known.get("inventory") == Participant("inventory", "dns:///inventory:50051")
    assert known.get("payments.v2") == Participant("payments.v2", "127.0.0.1:443")
    assert known.get("shipping") is None
    assert known.path == path


def test_the_file_may_be_json_with_tabs(tmp_path: Path) -> None:
    path = write(tmp_path, '{\n\t"participants": {\n\t\t"a": {"target": "a:1"}}}', "participants.json")
    assert Directory.load(str(path)).names == {"a"}


def test_a_directory_may_be_empty(tmp_path: Path) -> None:
    assert Directory.load(write(tmp_path, "participants: {}")).names == frozenset()
    assert Directory.empty().names == frozenset()
    assert Directory.empty().get("a") is None


@pytest.mark.parametrize(
    "target",
    [
        "localhost:50051",
        "order_service.internal.:65535",
        "10.0.0.7:1",
        "[::1]:50051",
        "dns:///inventory:50051",
        "dns://8.8.8.8/inventory:50051",
        "dns:inventory:50051",
        "ipv4:10.0.0.7:50051",
        "ipv4:10.0.0.7:50051,10.0.0.8:50051",
        "ipv6:[2001:db8::1]:50051",
        "unix-abstract:inventory",
    ],
)
def test_a_target_is_what_grpc_takes(tmp_path: Path, target: str) -> None:
    known = Directory.load(write(tmp_path, f'participants: {{a: {{target: "{target}"}}}}'))
    assert known.get("a") == Participant("a", target)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("unix:a.sock", "unix:{folder}/a.sock"),
        ("unix:sockets/a b%.sock", "unix:{folder}/sockets/a%20b%25.sock"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
    ],
)
def test_a_socket_starts_at_the_files_folder(tmp_path: Path, written: str, meant: str) -> None:
    known = Directory.load(write(tmp_path, f'participants: {{a: {{target: "{written}"}}}}'))
    assert known.get("a") == Participant("a", meant.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("inventory", "is not a host and a port"),
        ("inventory:", "is not a host and a port"),
        ("inventory:http", "is not a host and a port"),
        ("http://inventory:80", "is not a host and a port"),
        ("dns://inventory:80", "is not a host and a port"),
        ("in ventory:80", "is not a host and a port"),
        ("inventory:0", "a port outside 1 to 65535"),
        ("inventory:65536", "a port outside 1 to 65535"),
        ("ipv4:inventory:80", "has an address that is none"),
        ("ipv4:[::1]:80", "is not an ipv4 address"),
        ("ipv4:10.0.0.7", "has an address that is none"),
        ("ipv4:10.0.0.7:1,10.0.0.8:0", "a port outside 1 to 65535"),
        ("unix://host/a.sock", "has a host"),
        ("unix:a,b.sock", "has a comma"),
        ("unix-abstract:", "names no socket"),
        (f"unix:/{'x' * 107}", "is 108 bytes long"),
    ],
)
def test_a_target_that_grpc_would_not_reach_is_a_fault(tmp_path: Path, target: str, said: str) -> None:
    (fault,) = faults(write(tmp_path, f'participants: {{a: {{target: "{target}"}}}}'))
    assert fault.startswith("participants.yaml:1: participants.a.target: ")
    assert said in fault


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """version: 1
participants:
  Inventory: {target: "inventory:50051"}
  payments: {tsl: true}
  shipping:
    target: 50051
    tls:
      ca_file: no-such.pem
      ca: x
      cert_file: ""
      server_name: 7
  billing: billing:50051
  audit: {target: "audit:1", tls: null}
""",
    )
    told = [fault.split(": ", 2) for fault in faults(path)]
    assert [(place, path) for place, path, _ in told] == [
        ("participants.yaml:1", "version"),
        ("participants.yaml:3", "participants.Inventory"),
        ("participants.yaml:4", "participants.payments.tsl"),
        ("participants.yaml:4", "participants.payments.target"),
        ("participants.yaml:6", "participants.shipping.target"),
        ("participants.yaml:9", "participants.shipping.tls.ca"),
        ("participants.yaml:10", "participants.shipping.tls.cert_file"),
        ("participants.yaml:11", "participants.shipping.tls.server_name"),
        ("participants.yaml:7", "participants.shipping.tls.key_file"),
        ("participants.yaml:8", "participants.shipping.tls.ca_file"),
        ("participants.yaml:12", "participants.billing"),
        ("participants.yaml:13", "participants.audit.tls"),
    ]
    descriptions = "\n".join(description for _, _, description in told)
    assert "no-such.pem cannot be read: No such file or directory" in descriptions
    assert "there are: target, tls" in descriptions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("participants:\n  a: {target: [}", "participants.yaml:2: is not YAML"),
        (
            "participants:\n  a: {target: 'a:1'}\n  a: {target: 'a:1'}",
            "participants.yaml:3: the key 'a' is given twice",
        ),
        ("", "participants.yaml: is empty"),
        ("participants:", "participants: must map names to participants"),
        ("- a", "participants.yaml:1: must be an object with participants"),
        ("participants: {}\n---\nparticipants: {}", "holds 2 YAML documents"),
    ],
)
def test_what_is_no_directory_is_a_fault(tmp_path: Path, text: str, said: str) -> None:
    (fault,) = faults(write(tmp_path, text))
    assert said in fault


def test_a_file_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path / "participants.yaml")
    assert fault == "participants.yaml: cannot be read: No such file or directory"


def test_certificates_are_read_with_the_directory(certificate: Path) -> None:
    path = write(
        certificate.parent,
        "participants: {a: {target: 'a:1', tls: "
        "{ca_file: client.pem, cert_file: client.pem, key_file: client.key, server_name: a.internal}}}",
    )
    participant = Directory.load(path).get("a")
    assert participant is not None
    pem, key = certificate.read_bytes(), certificate.with_suffix(".key").read_bytes()
    assert participant.tls == Tls(pem, pem, key, "a.internal")
    assert "PRIVATE" not in repr(participant)


def test_a_rotated_certificate_makes_another_participant(certificate: Path) -> None:
    path = write(certificate.parent, "participants: {a: {target: 'a:1', tls: {ca_file: client.pem}}}")
    before = Directory.load(path)
    assert Directory.load(path).get("a") == before.get("a")
    certificate.write_bytes(certificate.read_bytes() * 2)
    assert Directory.load(path).get("a") != before.get("a")


@pytest.mark.parametrize("written", ["true", "{}"])
def test_tls_without_a_ca_trusts_what_the_machine_trusts(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    path = write(certificate.parent, f"participants: {{a: {{target: 'a:1', tls: {written}}}}}")
    assert Directory.load(path).get("a") == Participant("a", "a:1", Tls(certificate.read_bytes()))


def test_certificates_that_cannot_work_are_faults(certificate: Path) -> None:
    folder = certificate.parent
    write(folder, "nothing", "junk.pem")
    path = write(
        folder,
        """participants:
  a: {target: "a:1", tls: {ca_file: client.key}}
  b: {target: "b:1", tls: {cert_file: client.pem, key_file: client.pem}}
  c: {target: "c:1", tls: {ca_file: junk.pem, cert_file: junk.pem, key_file: client.key}}
""",
    )
    assert [fault.split(": ")[1] for fault in faults(path)] == [
        "participants.a.tls.ca_file",
        "participants.b.tls.cert_file",
        "participants.c.tls.ca_file",
        "participants.c.tls.cert_file",
    ]


def test_a_descriptor_set_is_read_with_the_directory(tmp_path: Path) -> None:
    described = descriptor_pb2.FileDescriptorSet(file=[descriptor_pb2.FileDescriptorProto(name="a.proto")])
    (tmp_path / "a.binpb").write_bytes(described.SerializeToString())
    path = write(tmp_path, 'participants: {a: {target: "a:1", descriptor_set: a.binpb}, b: {target: "b:1"}}')
    known = Directory.load(path)
    assert [participant and participant.descriptor_set for participant in map(known.get, "ab")] == [
        DescriptorSet({"a.proto": described.file[0].SerializeToString()}),
        None,
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("7", "must be the name of a file"),
        ("missing.binpb", "missing.binpb cannot be read: No such file or directory"),
        ("text.binpb", "text.binpb is not a google.protobuf.FileDescriptorSet"),
        ("empty.binpb", "empty.binpb holds no files"),
    ],
)
def test_a_descriptor_set_that_is_none(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "text.binpb").write_text("syntax")
    (tmp_path / "empty.binpb").write_bytes(b"")
    path = write(tmp_path, f'participants: {{a: {{target: "a:1", descriptor_set: {written}}}}}')
    (fault,) = faults(path)
    assert f"participants.a.descriptor_set: {said}" in fault


PAGE = Path(__file__).resolve().parents[3] / "docs" / "participants.md"


def test_the_examples_of_the_page_can_be_read(certificate: Path) -> None:
    folder = certificate.parent
    (folder / "ca.pem").write_bytes(certificate.read_bytes())
    examples = re.findall(
        r"^```yaml\n(?:# \S+\n)?(participants:\n.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    read = {
        name: found
        for text in examples
        if "descriptor_set" not in text
        for name, found in load(folder, text).items()
    }
    assert {"inventory", "payments", "shipping", "ledger", "invoicing"} <= read.keys()
    assert read["inventory"].load_balancing == "round_robin"
    assert read["payments"].limits == ParticipantLimits(
        concurrency=64,
        is_adaptive=True,
        rate=100.0,
        burst=100,
        breaker=BreakerLimits(
            calls_min=20,
            failure_ratio=0.5,
            slow_call_seconds=2.0,
            slow_ratio=0.5,
            rest_seconds=2.0,
            rest_seconds_max=60.0,
        ),
    )


def load(folder: Path, text: str) -> Mapping[str, Participant]:
    return Directory.load(write(folder, text)).participants


def test_limits_have_defaults_and_a_worker_none_for_its_calls(tmp_path: Path) -> None:
    known = load(
        tmp_path,
        "participants: {a: {target: 'a:1', limits: {}}, b: {worker: true, limits: {rate: 2.5}}, c: {worker: true}}",
    )
    assert known["a"].limits == ParticipantLimits(256, breaker=BreakerLimits())
    assert (known["b"].limits.concurrency, known["b"].limits.rate, known["b"].limits.burst) == (None, 2.5, 2)
    assert known["c"].limits.concurrency is None


def test_every_fault_of_limits_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """participants:
  a:
    target: "a:1"
    load_balancing: random
    limits: {concurrency: 1.5, rate: -1, burst: 3, breaker: {failure_ratio: 1.5, rest: 5, probes: true, patience: 1s}}
  b: {worker: true, limits: {adaptive: true}}
  c: {target: "c:1", limits: {concurrency: 0}}
""",
    )
    assert any("is 0; it must be between 1 and 100000, or be left out" in fault for fault in faults(path))
    told = [fault.partition(": ")[2] for fault in faults(path)]
    assert [fault.split(": ")[0].removeprefix("participants.") for fault in told] == [
        "a.limits.concurrency",
        "a.limits.rate",
        "a.limits.burst",
        "a.limits.breaker.rest",
        "a.limits.breaker.failure_ratio",
        "a.limits.breaker.probes",
        "a.limits.breaker.patience",
        "a.load_balancing",
        "b.limits.adaptive",
        "c.limits.concurrency",
    ]
