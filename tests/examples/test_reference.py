"""docs/definitions.md: every definition on it is one, and the faults that it shows are those that are told."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from saga_client.v1 import definition_pb2

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import InvalidDefinition

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
DEFINITIONS = [body for info, body in BLOCKS if info == "yaml"]


def read(body: str) -> Any:
    """A definition, or the steps of one."""
    source = yaml.safe_load(body)
    return {"name": "page", "steps": source} if isinstance(source, list) else source


@pytest.mark.parametrize("body", DEFINITIONS, ids=lambda body: str(body).splitlines()[0])
def test_definition_on_the_page_is_valid(body: str) -> None:
    assert parse_definition(read(body)).steps


def test_page_shows_every_kind_of_step() -> None:
    """And so does this test fail when the page's blocks are no longer found."""
    kinds = {key for body in DEFINITIONS for step in read(body)["steps"] for key in step}
    assert kinds >= {
        "action", "delay", "until", "await_event", "approval", "saga", "switch", "for_each", "repeat"
    }  # fmt: skip


def test_page_has_every_field_of_the_contract() -> None:
    messages = [definition_pb2.DESCRIPTOR.message_types_by_name["Definition"]]
    for message in messages:
        nested = [field.message_type for field in message.fields if field.message_type]
        messages += [each for each in nested if each.file is message.file and each not in messages]
    fields = {
        {"declared": "use", "item_name": "as"}.get(field.name, field.name)  # as people write them
        for message in messages
        if not message.GetOptions().map_entry
        for field in message.fields
    }
    assert "max_passes" in fields
    assert {name for name in fields if f"`{name}`" not in PAGE} == set()


def test_faults_on_the_page_are_those_that_are_told() -> None:
    [faulty] = [body for info, body in BLOCKS if info == "yaml faulty"]
    [shown] = [body for info, body in BLOCKS if info == "text"]
    with pytest.raises(InvalidDefinition) as caught:
        parse_definition(read(faulty))
    assert shown.splitlines() == [f"{fault.path}: {fault.description}" for fault in caught.value.faults]


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert links
    assert links <= anchors
