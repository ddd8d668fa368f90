"""A definition that is given as text is the one that its message would be, and its faults are told with their lines."""

import json

import pytest

from saga_coordinator.pb.saga.v1.definition_service_pb2 import (
    RegisterDefinitionRequest,
    ValidateDefinitionRequest,
)
from tests.acceptance.conftest import Client
from tests.acceptance.test_rpc import Refused
from tests.eventually import PATIENCE_SECONDS

YAML = """\
# for people
name: written
steps:
  - name: pack
    action: {participant: shop, method: quick, timeout: 2s, input: {count: 3}}
    read_only: true
"""
SPEC = {
    "name": "written",
    "steps": [
        {
            "name": "pack",
            "action": {"participant": "shop", "method": "quick", "timeout": "2s", "input": {"count": 3}},
            "read_only": True,
        }
    ],
}


def test_yaml_json_and_the_message_are_one_definition(client: Client) -> None:
    first = client.definitions.RegisterDefinition(
        RegisterDefinitionRequest(text=YAML), timeout=PATIENCE_SECONDS
    )
    assert first.created
    as_message = RegisterDefinitionRequest(definition=first.registered.definition)
    others = [
        client.definitions.RegisterDefinition(request, timeout=PATIENCE_SECONDS)
        for request in (
            RegisterDefinitionRequest(text=json.dumps(SPEC)),
            RegisterDefinitionRequest(text=json.dumps(SPEC, indent="\t")),
            as_message,
        )
    ]
    assert [other.created for other in others] == [False, False, False]
    assert {other.registered.digest for other in others} == {first.registered.digest}


def test_json_with_escapes_that_yaml_does_not_have(client: Client) -> None:
    text = json.dumps({**SPEC, "name": "escaped", "description": "\N{PACKAGE}"})
    assert "\\ud83d" in text
    answer = client.definitions.RegisterDefinition(
        RegisterDefinitionRequest(text=text), timeout=PATIENCE_SECONDS
    )
    assert answer.registered.definition.description == "\N{PACKAGE}"


def test_faults_of_a_text_have_their_lines(client: Client) -> None:
    text = YAML.replace("method: quick", "methd: quick").replace("read_only: true", "read_only: 7")
    validated = client.definitions.ValidateDefinition(
        ValidateDefinitionRequest(text=text), timeout=PATIENCE_SECONDS
    )
    lines = {fault.path: fault.line for fault in validated.faults}
    assert lines["steps[0].action.methd"] == 5
    assert lines["steps[0].read_only"] == 6
    refused = Refused(lambda: client.definitions.RegisterDefinition(RegisterDefinitionRequest(text=text)))
    assert refused.details["ErrorInfo"].reason == "INVALID_DEFINITION"
    violations = {each.field: each.description for each in refused.details["BadRequest"].field_violations}
    assert violations["text.steps[0].action.methd"].startswith("line 5: unknown field")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: a\nname: b\n", 2, "given twice"),
        ("name: [\n", 2, "is not YAML"),
        ("name: a\n---\nname: b\n", 0, "has 2 documents; give exactly one"),
        ("# nothing\n", 0, "has 0 documents; give exactly one"),
        ("[" * 300 + "]" * 300, 1, "nested too deeply"),
        ("a: &x [1]\nb: 9007199254740993\n", 2, "9007199254740993"),
        ('{"name": "a",\n"steps": [}', 2, "is not YAML"),
        ("7", 1, "must be an object"),
        ("#" * 262_145, 0, "has 262145 bytes; 262144 is the limit"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(client: Client, text: str, line: int, said: str) -> None:
    answer = client.definitions.ValidateDefinition(
        ValidateDefinitionRequest(text=text), timeout=PATIENCE_SECONDS
    )
    assert (answer.faults[0].line, said in answer.faults[0].description) == (line, True), answer
    refused = Refused(lambda: client.definitions.RegisterDefinition(RegisterDefinitionRequest(text=text)))
    assert refused.paths[0].partition(".")[0] == "text"


def test_one_of_the_two(client: Client) -> None:
    both = RegisterDefinitionRequest(text=YAML)
    both.definition.name = "written"
    assert Refused(lambda: client.definitions.RegisterDefinition(both)).paths == ["text"]
