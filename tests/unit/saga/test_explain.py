"""What `definition explain` draws and says."""

from __future__ import annotations

from random import Random
from xml.etree import ElementTree as ET

import pytest

from proof.core.definitions import definition, random_source, step
from saga_coordinator.advice.drawing import draw_svg
from saga_coordinator.advice.layers import layers
from saga_coordinator.advice.text import WIDTH, drawing
from saga_coordinator.advice.words import duration, in_words
from saga_coordinator.saga.definition.model import Definition, all_steps
from saga_coordinator.saga.definition.parsing import parse_definition
from tests.unit.saga.test_rehearse import nested

SVG = "{http://www.w3.org/2000/svg}"


def drawn(source: Definition) -> str:
    return "\n".join(drawing(source)) + "\n"


def picture(source: Definition) -> ET.Element:
    return ET.fromstring(draw_svg(source))  # noqa: S314  # our own drawing


def texts(source: Definition) -> list[str]:
    root = picture(source)
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]


def test_each_compensation_stands_beneath_its_step() -> None:
    source = definition(step("reserve"), step("charge"), step("ship", pivot=True), step("mail", late=True))
    assert drawn(source) == (
        "forward  reserve      ─▶ charge      ─▶ ◆ ship ─▶ mail\n\nundo     undo reserve ◀─ undo charge\n"
    )


def test_what_runs_at_once_stands_above_each_other() -> None:
    source = definition(
        step("a"),
        step("b", after=["a"]),
        step("c", after=["a"], irreversible=True),
        step("d", after=["b"], read_only=True),
    )
    assert drawn(source) == (
        "forward  a      ─▶ ┌ b         ─▶ d\n"
        "                   └ c\n"
        "\n"
        "undo     undo a ◀─ ┌ undo b\n"
        "                   └ ! c stays\n"
        "\n"
        "         d starts after b\n"
    )


def test_a_bracket_closes_what_the_next_step_waits_for() -> None:
    source = definition(
        step("a"), step("bb", after=[]), step("c", after=[]), step("d", after=["a", "bb", "c"])
    )
    assert drawn(source) == (
        "forward  ┌ a       ┐ ─▶ d\n"
        "         ├ bb      ┤\n"
        "         └ c       ┘\n"
        "\n"
        "undo     ┌ undo a  ┐ ◀─ undo d\n"
        "         ├ undo bb ┤\n"
        "         └ undo c  ┘\n"
    )


def test_blocks_are_frames() -> None:
    loop = {
        "name": "pay",
        "for_each": {"items": "input.people", "max_parallel": 2, "steps": [step("send"), step("note")]},
    }
    assert drawn(definition(loop)) == (
        "forward  ┌─ pay: for each item of input.people, 2 at once ──┐\n"
        "         │ send      ─▶ note                                │\n"
        "         └──────────────────────────────────────────────────┘\n"
        "\n"
        "undo     ┌─ undo pay ───────────────────────────────────────┐\n"
        "         │ undo send ◀─ undo note                           │\n"
        "         └──────────────────────────────────────────────────┘\n"
    )


def test_a_long_saga_goes_on_in_a_next_line() -> None:
    source = definition(*(step(f"step_number_{number}") for number in range(40)))
    lines = drawn(source).splitlines()
    assert max(len(line) for line in lines) <= WIDTH
    assert sum(line.startswith("forward") for line in lines) > 3
    for number in range(40):
        assert any(f"undo step_number_{number}" in line for line in lines)


@pytest.mark.parametrize("seed", range(20))
def test_every_step_is_drawn_and_said(seed: int) -> None:
    source = parse_definition(random_source(Random(seed), flat_share=1.0))
    text, words, shown = drawn(source), "\n".join(in_words(source)), " ".join(texts(source))
    for each in source.steps:
        assert each.name in text
        assert each.name in words
        assert each.name in shown
        if each.compensation is not None:
            assert f"undo {each.name}" in text
            assert f"undo {each.name}" in shown


@pytest.mark.parametrize("seed", range(20))
def test_layers_are_an_order(seed: int) -> None:
    block = parse_definition(random_source(Random(seed), flat_share=1.0)).block
    seen: set[str] = set()
    for layer in layers(block):
        for each in layer:
            assert block.dependencies[each.name] <= seen
        seen |= {each.name for each in layer}
    assert seen == {each.name for each in block.steps}


def test_the_picture_shows_nested_steps_and_nothing_outside_of_itself() -> None:
    source = nested()
    root = picture(source)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for each in root.iter(f"{SVG}rect"):
        x, y = float(each.get("x", 0)), float(each.get("y", 0))
        assert 0 <= x <= x + float(each.attrib["width"]) <= width
        assert 0 <= y <= y + float(each.attrib["height"]) <= height
    shown = " ".join(texts(source))
    for inner in all_steps(source.block):
        assert inner.name in shown
    assert "undo route" in shown
    assert "◆ ship" in shown


def test_boxes_do_not_overlap() -> None:
    source = definition(
        step("a"),
        step("b", after=["a"]),
        step("c", after=["a"]),
        step("d", after=["a", "c"]),
        step("e", after=["b", "d"]),
    )
    root = picture(source)
    boxes = [
        tuple(float(each.attrib[name]) for name in ("x", "y", "width", "height"))
        for each in root.iter(f"{SVG}rect")
        if each.get("rx") == "6"
    ]
    assert len(boxes) == 10
    for number, (x1, y1, w1, h1) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[number + 1 :]:
            assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 or y2 + h2 <= y1


def test_text_from_a_definition_cannot_break_the_picture() -> None:
    source = definition(step("a", when="input.x < 3 && input.y == '</svg>'"), name="order")
    assert "</svg>" not in " ".join(texts(source))
    switch = {"name": "s", "switch": {"cases": [{"when": "input.x < 3", "steps": [step("b")]}]}}
    assert "when input.x < 3:" in texts(definition(switch))


def said(source: Definition) -> str:
    return "\n".join(in_words(source))


def test_times_are_spelled_out() -> None:
    action = {"participant": "p", "timeout": "2s", "retry": {"max_attempts": 3, "initial_backoff": "1s"}}
    words = said(definition(step("a", action=action), deadline="7200s"))
    assert (
        "2 s for each attempt, 3 attempts with random pauses of up to 1 s, 2 s; 9 s in all at most" in words
    )
    assert "Deadline: 2 h" in words


def test_what_a_failure_means_depends_on_where_it_is() -> None:
    source = definition(
        step("a"),
        step("b", action={"participant": "p", "on_failure": "continue"}),
        step("ship", pivot=True),
        step("mail", late=True),
    )
    words = said(source)
    a, b, ship, mail = (words.split(f"\n\n{name}")[1].split("\n\n")[0] for name in ("a", "b", "ship", "mail"))
    assert "refused: no other attempt; it is not undone; the saga is compensated" in a
    assert "the saga goes on without it" in b
    assert "after the last attempt NEEDS_ATTENTION" in ship
    assert "the saga is NEEDS_ATTENTION, because it cannot go back any more" in mail
    assert "undone by: nothing, it comes after the pivot" in mail


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1, "0.1 s"), (90, "90 s"), (120, "2 min"), (86_400, "24 h"), (2_592_000, "30 d")]
)
def test_durations_are_in_the_largest_unit_that_leaves_no_rest(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_how_far_a_wait_looks_back_is_said() -> None:
    wait = {"event": "paid", "correlation": "${input.order}"}
    assert "before the saga's start" not in said(definition({"name": "a", "await_event": wait}))
    assert "an event that came up to 10 min before the saga's start" in said(
        definition({"name": "a", "await_event": {**wait, "look_back": "600s"}})
    )
