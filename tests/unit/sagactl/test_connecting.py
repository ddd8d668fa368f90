"""Flags, variables, contexts and defaults add up to one connection; faults are told with what to do."""

from pathlib import Path

import pytest
import yaml

from sagactl.connecting.connection import Connection, connection_of
from sagactl.connecting.contexts import read_contexts, write_contexts
from sagactl.endings import NotFound, Problem, WrongUsage

CONTEXTS = {
    "current": "here",
    "contexts": {
        "here": {"address": "here:1", "token": "secret", "namespace": "tests", "timeout": "1m"},
        "there": {"address": "there:1", "tls": True, "ca_file": "ca.pem"},
    },
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "contexts.yaml"
    file.write_text(yaml.safe_dump(CONTEXTS))
    return {"SAGACTL_CONFIG": str(file)}


def test_without_anything_the_server_is_here() -> None:
    assert connection_of({}, {"XDG_CONFIG_HOME": "/nonexistent"}) == Connection()


def test_a_flag_goes_before_a_variable_and_that_before_the_context(environment: dict[str, str]) -> None:
    assert connection_of({}, environment).namespace == "tests"
    environment["SAGACTL_NAMESPACE"] = "by-variable"
    assert connection_of({}, environment).namespace == "by-variable"
    assert connection_of({"namespace": "by-flag"}, environment).namespace == "by-flag"
    assert connection_of({}, environment).timeout_seconds == 60


def test_a_context_is_chosen_by_flag_or_variable(environment: dict[str, str]) -> None:
    assert connection_of({"context": "there"}, environment).is_tls
    chosen = connection_of({}, {**environment, "SAGACTL_CONTEXT": "there"})
    assert (chosen.address, chosen.context, chosen.token) == ("there:1", "there", "")
    with pytest.raises(NotFound, match="it has: here, there"):
        connection_of({"context": "nowhere"}, environment)


def test_the_token_of_the_current_context_goes_to_no_address_that_is_given_by_hand(
    environment: dict[str, str],
) -> None:
    assert connection_of({"address": "elsewhere:1"}, environment).token == ""
    assert connection_of({}, {**environment, "SAGACTL_ADDRESS": "elsewhere:1"}).token == ""
    assert connection_of({"address": "elsewhere:1", "context": "here"}, environment).token == "secret"


@pytest.mark.parametrize(
    ("flags", "is_tls"),
    [
        ({}, False),
        ({"ca_file": "ca.pem"}, True),
        ({"ca_file": "ca.pem", "tls": False}, False),
        ({"tls": True}, True),
    ],
)
def test_a_certificate_means_tls_unless_said_otherwise(flags: dict[str, object], is_tls: bool) -> None:
    assert connection_of(flags, {"XDG_CONFIG_HOME": "/nonexistent"}).is_tls is is_tls


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"address": "nonsense"}, "is no address"),
        ({"address": "host:99999"}, "is no address"),
        ({"timeout": "soon"}, "no span of time"),
        ({"timeout": "0s"}, "longer than nothing"),
        ({"cert_file": "client.pem"}, "both --cert-file and --key-file"),
        ({"headers": ("nonsense",)}, "NAME: VALUE"),
        ({"tls": "perhaps"}, "true or false"),
    ],
)
def test_faults(flags: dict[str, object], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        connection_of(flags, {"XDG_CONFIG_HOME": "/nonexistent"})


@pytest.mark.parametrize("command", ["false", "nonexistent-program", "printf ''", "printf 'two words'", "'"])
def test_a_command_that_prints_no_token_is_told(command: str) -> None:
    with pytest.raises(WrongUsage, match="token command"):
        Connection(token_command=command).read_token()


@pytest.mark.parametrize("text", ["[1, 2]", "contexts: {a: 1}", "contexts: {a: {adress: x}}", "{", "else: 1"])
def test_a_faulty_file_of_contexts_is_told_by_its_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "contexts.yaml"
    file.write_text(text)
    with pytest.raises(WrongUsage, match=r"contexts\.yaml"):
        read_contexts({"SAGACTL_CONFIG": str(file)})


def test_contexts_are_kept_whole(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    write_contexts(read_contexts(environment).put("a", {"address": "a:1"}).put("b", {"address": "b:1"}))
    kept = read_contexts(environment)
    assert (kept.current, list(kept.named)) == ("a", ["a", "b"])
    write_contexts(kept.using("b").without("b"))
    assert read_contexts(environment).current == ""
    assert [file.name for file in kept.path.parent.iterdir()] == ["contexts.yaml"]
    with pytest.raises(Problem):
        kept.without("c")
