"""The example's files agree with the contract, with the coordinator and with one another."""

from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from order_fulfilment import orders, shop_pb2
from order_fulfilment.service import Database
from order_fulfilment.timeline import PARTICIPANTS, WORDS
from saga_client.v1.definition_pb2 import Definition

from saga_coordinator.saga.definition.model import Definition as CheckedDefinition
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.entries import ENTRY_TYPES
from saga_coordinator.saga.machine.stored_entry import entry_type
from tests.examples.conftest import PARTICIPANTS as SERVICES

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "order_fulfilment"


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLE / name).read_text(encoding="utf-8"))


def test_the_definition_is_the_canonical_form_of_the_message() -> None:
    definition = ParseDict(read("definition.yaml"), Definition())
    assert [step.name for step in definition.steps] == ["reserve", "charge", "ship"]


def test_the_coordinator_finds_no_fault_with_the_definition() -> None:
    definition = MessageToDict(ParseDict(read("definition.yaml"), Definition()))
    assert isinstance(parse_definition(definition), CheckedDefinition)


def test_every_operation_is_one_that_its_participant_performs() -> None:
    targets = read("participants.yaml")["participants"]
    definition = ParseDict(read("definition.yaml"), Definition())
    for step in definition.steps:
        name = step.action.participant
        participant = SERVICES[name](Database("", name))
        assert name in targets
        assert step.action.method in participant.actions
        if step.HasField("compensation"):
            assert step.compensation.participant == name
            assert step.compensation.method in participant.compensations


def test_the_plain_definition_differs_in_nothing_but_the_methods_which_are_those_of_the_services() -> None:
    contract, plain = read("definition.yaml"), read("definition_plain.yaml")
    for step, plain_step in zip(contract["steps"], plain["steps"], strict=True):
        for kind in ("action", "compensation"):
            if kind not in step:
                continue
            operation, method = step[kind], plain_step[kind]["method"]
            service = shop_pb2.DESCRIPTOR.services_by_name[operation["participant"].capitalize()]
            assert method == f"{service.full_name}/{operation['method']}"
            assert operation["method"] in service.methods_by_name
            plain_step[kind]["method"] = operation["method"]
    assert plain == contract


def test_the_plain_services_have_the_methods_that_their_participants_perform() -> None:
    for name, participant in SERVICES.items():
        operations = participant(Database("", name))
        service = shop_pb2.DESCRIPTOR.services_by_name[name.capitalize()]
        assert set(service.methods_by_name) == {*operations.actions, *operations.compensations}


def test_an_order_has_every_field_that_the_definition_refers_to() -> None:
    definition = (EXAMPLE / "definition.yaml").read_text(encoding="utf-8")
    for name in orders.one_order("A-17").input:
        assert f"${{input.{name}}}" in definition


def test_the_timeline_has_words_for_every_entry_and_step() -> None:
    assert {entry_type(each) for each in ENTRY_TYPES} == set(WORDS)
    definition = ParseDict(read("definition.yaml"), Definition())
    assert {step.name: step.action.participant for step in definition.steps} == PARTICIPANTS
