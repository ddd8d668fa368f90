"""Versions of definitions and schemas of inputs, at a running coordinator: over the wire, and by the commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from saga_coordinator.pb.saga.v1.definition_service_pb2 import (
    DeleteDefinitionRequest,
    DeprecateDefinitionRequest,
    GetDefinitionRequest,
    ListDefinitionsRequest,
    SetDefaultVersionRequest,
)
from saga_coordinator.pb.saga.v1.saga_service_pb2 import StartSagaRequest, StartSagaResponse
from tests.acceptance.conftest import Client, Serving, StartServing, run_here
from tests.acceptance.test_rpc import pages_of, value
from tests.eventually import PATIENCE_SECONDS

SCHEMA = {
    "type": "object",
    "required": ["customer"],
    "properties": {
        "customer": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
    },
}

Start = Callable[..., StartSagaResponse]


def spec(name: str, **more: Any) -> dict[str, Any]:
    step = {"name": "a", "action": {"participant": "shop", "method": "quick"}, "read_only": True}
    return {"name": name, "steps": [step], **more}


@pytest.fixture
def start(client: Client, request: pytest.FixtureRequest) -> Start:
    """Starts a saga; the key is the test's name unless another is given."""

    def call(definition: str, **fields: Any) -> StartSagaResponse:
        fields = {"start_key": request.node.name, "definition": definition, **fields}
        return client.sagas.StartSaga(StartSagaRequest(**fields), timeout=PATIENCE_SECONDS)

    return call


@pytest.fixture
def register(client: Client) -> Callable[[dict[str, Any]], int]:
    def call(source: dict[str, Any]) -> int:
        return client.define(source).registered.version

    return call


@pytest.fixture
def versions(register: Callable[[dict[str, Any]], int], request: pytest.FixtureRequest) -> str:
    """A definition of three versions, named like the test."""
    name: str = request.node.name
    for number in (1, 2, 3):
        register(spec(name, description=str(number)))
    return name


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details() or ""


# Over the wire.


def test_an_input_that_does_not_fit_is_refused_with_every_fault(
    register: Callable[[dict[str, Any]], int], start: Start
) -> None:
    register(spec("checked", input_schema=SCHEMA))
    given = {"lines": [{"sku": "a"}, {}]}
    assert refusal(lambda: start("checked", input=value(given))) == (
        "INVALID_ARGUMENT",
        "2 faults: input.customer: is required; input.lines[1].sku: is required",
    )
    assert refusal(lambda: start("checked")) == ("INVALID_ARGUMENT", "input.customer: is required")
    assert start("checked", input=value({"customer": "a"})).created


def test_a_schema_with_faults_is_refused_with_its_definition(
    register: Callable[[dict[str, Any]], int],
) -> None:
    schema = {"properties": {"a": {"$ref": "https://example.org/a"}, "b": {"pattern": "("}}}
    code, message = refusal(lambda: register(spec("faulty", input_schema=schema)))
    assert code == "INVALID_ARGUMENT"
    assert "input_schema.properties.a.$ref: `https://example.org/a` leads out of the schema" in message
    assert "input_schema.properties.b.pattern: is not a regular expression" in message


def test_a_deprecated_version(client: Client, versions: str, start: Start) -> None:
    first = start(versions, version=2)
    request = DeprecateDefinitionRequest(name=versions, version=2, deprecated=True)
    assert client.definitions.DeprecateDefinition(request, timeout=PATIENCE_SECONDS).registered.deprecated
    code, message = refusal(lambda: start(versions, version=2, start_key=f"{versions} 2"))
    assert code == "FAILED_PRECONDITION"
    assert message.endswith("use version 3")
    again = start(versions, version=2)
    assert (again.created, again.saga.saga_id) == (False, first.saga.saga_id)


def test_the_default_version(client: Client, versions: str, start: Start) -> None:
    request = SetDefaultVersionRequest(name=versions, version=1)
    used = client.definitions.SetDefaultVersion(request, timeout=PATIENCE_SECONDS).registered
    assert (used.version, used.is_default) == (1, True)
    assert start(versions).saga.version == 1
    newest = client.definitions.GetDefinition(
        GetDefinitionRequest(name=versions), timeout=PATIENCE_SECONDS
    ).registered
    assert (newest.version, newest.is_default) == (3, False)
    client.definitions.SetDefaultVersion(SetDefaultVersionRequest(name=versions), timeout=PATIENCE_SECONDS)
    assert start(versions, start_key=f"{versions} newest").saga.version == 3


def test_versions_in_pages(client: Client, versions: str) -> None:
    request = ListDefinitionsRequest(name=versions, page_size=2)
    pages = pages_of(client.definitions.ListDefinitions, request)
    assert [[each.version for each in page.definitions] for page in pages] == [[3, 2], [1]]


def test_deleting(client: Client, versions: str, start: Start) -> None:
    start(versions, version=1)

    def delete(version: int) -> None:
        request = DeleteDefinitionRequest(name=versions, version=version)
        client.definitions.DeleteDefinition(request, timeout=PATIENCE_SECONDS)

    delete(2)
    assert refusal(lambda: start(versions, version=2, start_key=f"{versions} 2"))[0] == "NOT_FOUND"
    code, message = refusal(lambda: delete(1))
    assert code == "FAILED_PRECONDITION"
    assert "refers to it" in message


@pytest.mark.parametrize("message", [DeprecateDefinitionRequest, DeleteDefinitionRequest])
def test_deciding_takes_a_version(client: Client, message: Any) -> None:
    call = client.definitions.DeprecateDefinition
    if message is DeleteDefinitionRequest:
        call = client.definitions.DeleteDefinition  # type: ignore[assignment]
    assert refusal(lambda: call(message(name="order"), timeout=PATIENCE_SECONDS)) == (
        "INVALID_ARGUMENT",
        "version: is required",
    )


# By the commands.


@pytest.fixture
def run(coordinator: Serving) -> Callable[..., tuple[int, str]]:
    """Runs `saga-coordinator definition ...` at the coordinator; its exit code, and what it wrote."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        done = run_here("definition", *arguments, "--address", coordinator.address)
        return done.returncode, done.stdout + done.stderr

    return call


def test_the_commands_decide_about_versions(versions: str, run: Callable[..., tuple[int, str]]) -> None:
    assert run("deprecate", f"{versions}@2") == (0, f"{versions}@2 is deprecated\n")
    assert run("default", f"{versions}@1") == (0, f"starts of {versions} without version use {versions}@1\n")
    code, listed = run("list", versions)
    assert code == 0
    assert [(line.split()[0], *line.split()[3:]) for line in listed.splitlines()] == [
        (f"{versions}@3",),
        (f"{versions}@2", "deprecated"),
        (f"{versions}@1", "default"),
    ]
    assert run("deprecate", f"{versions}@2", "--undo") == (0, f"{versions}@2 is not deprecated\n")
    assert (
        run("default", versions, "--newest")[1] == f"starts of {versions} without version use {versions}@3\n"
    )
    assert run("delete", f"{versions}@2") == (0, f"{versions}@2 is deleted\n")
    found = json.loads(run("list", versions, "--format", "json")[1])
    assert [(each["version"], each["deprecated"], each["is_default"]) for each in found] == [
        (3, False, False),
        (1, False, False),
    ]
    assert f"{versions}@3" in run("list")[1]


def test_what_is_printed_can_be_applied(
    run: Callable[..., tuple[int, str]], register: Callable[[dict[str, Any]], int], tmp_path: Path
) -> None:
    source = spec("printed", deadline="3s", input_schema={**SCHEMA, "maxProperties": 7, "title": "nö"})
    register(source)
    code, printed = run("get", "printed")
    assert code == 0
    assert yaml.safe_load(printed) == source
    file = tmp_path / "printed.yaml"
    file.write_text(printed, encoding="utf-8")
    assert run("apply", file) == (0, "printed version 1 (unchanged)\n")
    assert json.loads(run("get", "printed@1", "--format", "json")[1])["definition"] == source


def test_a_file_compared_to_what_is_registered(
    run: Callable[..., tuple[int, str]], register: Callable[[dict[str, Any]], int], tmp_path: Path
) -> None:
    register(spec("compared", input_schema=SCHEMA))
    file = tmp_path / "compared.yaml"
    file.write_text(json.dumps(spec("compared", input_schema=SCHEMA)))
    assert run("diff", "compared", file) == (0, f"compared@1 and {file} say the same\n")
    stricter = {**SCHEMA, "required": ["customer", "lines"]}
    file.write_text(json.dumps(spec("compared", input_schema=stricter, deadline="5s")))
    assert run("diff", "compared@1", file) == (
        1,
        f"compared@1 -> {file}\n! input.lines: is required now\n  deadline: is new: 5s\n2 changes, 1 of them breaking\n",
    )
    code, back = run("diff", file, "compared", "--format", "json")
    assert code == 0
    assert json.loads(back) == {
        "before": str(file),
        "after": "compared@1",
        "is_breaking": False,
        "changes": [
            {"path": "input.lines", "description": "is not required any more", "is_breaking": False},
            {"path": "deadline", "description": "is gone (was 5s)", "is_breaking": False},
        ],
    }


def test_what_cannot_be_compared_is_neither_the_same_nor_breaking(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    two = tmp_path / "two.yaml"
    two.write_text(f"{json.dumps(spec('one'))}\n---\n{json.dumps(spec('two'))}\n")
    code, said = run("diff", two, "nothing@7")
    assert (code, said) == (2, f"error: {two}: has 2 definitions; name a file with one\n")
    two.write_text(json.dumps(spec("one")))
    code, said = run("diff", two, "nothing@7")
    assert code == 2
    assert "there is no version 7 of definition `nothing`" in said
    assert run("diff", tmp_path / "absent.yaml", two)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deprecate", "order"], "'order' is not NAME@VERSION, such as order@3"),
        (["delete", "order@x"], "'order@x' is not NAME@VERSION"),
        (["delete", "order@0"], "'order@0' is not NAME@VERSION"),
        (["default", "order"], "give NAME and --newest"),
        (["default", "order@2", "--newest"], "give NAME and --newest"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, run: Callable[..., tuple[int, str]]) -> None:
    code, written = run(*arguments)
    assert code == 2
    assert said in written


def test_a_decision_about_what_does_not_exist(run: Callable[..., tuple[int, str]]) -> None:
    for verb in ("deprecate", "default", "delete"):
        code, said = run(verb, "nothing@1")
        assert code == 1
        assert "NOT_FOUND: there is no version 1 of definition `nothing`" in said


CHILDREN = """
name: a-parent
steps: [{name: run, irreversible: true, saga: {definition: %s}}]
---
name: the-child
steps: [{name: look, read_only: true, action: {participant: stokc}}]
"""


def test_references_are_checked_when_they_are_made(serving: StartServing, tmp_path: Path) -> None:
    participants, file = tmp_path / "participants.yaml", tmp_path / "both.yaml"
    participants.write_text("participants: {stock: {target: 'localhost:1'}}")
    at = ("--address", serving("--participants", participants).address)
    file.write_text(CHILDREN % "the-chidl")
    assert run_here("definition", "validate", file).returncode == 0  # nobody was asked
    for command in (["validate", "--live"], ["apply"]):
        done = run_here("definition", *command, *at, file)
        assert done.returncode == 1
        assert "steps[0].saga.definition: there is no definition `the-chidl`" in done.stderr
        assert "the directory has no participant `stokc`; did you mean `stock`?" in done.stderr
    listed = run_here("definition", "list", *at)
    assert listed.returncode == 0
    assert "the-child" not in listed.stdout, "one with a fault keeps all from being applied"

    file.write_text(CHILDREN % "the-child")
    done = run_here("definition", "validate", "--live", *at, file)
    assert [line.split(": ", 3)[1:] for line in done.stderr.splitlines()] == [
        [
            f"{file}:6",
            "steps[0].action.participant",
            "the directory has no participant `stokc`; did you mean `stock`?",
        ]
    ]
    done = run_here("definition", "apply", *at, file)
    assert done.stdout == "the-child version 1 (created)\na-parent version 1 (created)\n", done.stderr
    assert done.stderr == (
        f"warning: {file}:6: steps[0].action.participant: the directory has no participant `stokc`; did you mean `stock`?\n"
    )
