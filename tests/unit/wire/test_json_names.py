"""The JSON form of a definition: the names that people write, and payloads as they are."""

from typing import Any

from google.protobuf import json_format

from saga_coordinator.pb.saga.v1.definition_pb2 import Definition
from saga_coordinator.wire.json_names import json_form

WRITTEN: dict[str, Any] = {
    "name": "payroll",
    "input_schema": {"properties": {"declared": {"type": "string"}, "item_name": {}}},
    "steps": [
        {
            "name": "pay",
            "for_each": {
                "items": "input.people",
                "as": "person",
                "steps": [
                    {
                        "name": "transfer",
                        "use": "bank.transfer",
                        "action": {"input": {"item_name": 1.0, "use": "x"}},
                    }
                ],
            },
        },
        {"name": "check", "on_failure": "continue", "use": "bank.check", "read_only": True},
    ],
}


def test_what_is_written_comes_back() -> None:
    assert json_form(json_format.ParseDict(WRITTEN, Definition())) == WRITTEN


def test_the_contracts_own_names_are_read_too() -> None:
    written = {
        "name": "x",
        "steps": [{"name": "a", "declared": "bank.check"}, {"name": "b", "onFailure": "fail"}],
    }
    assert json_form(json_format.ParseDict(written, Definition())) == {
        "name": "x",
        "steps": [{"name": "a", "use": "bank.check"}, {"name": "b", "on_failure": "fail"}],
    }
