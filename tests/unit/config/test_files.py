"""Files that people write: read by YAML 1.2's core schema, strictly, and with the line of what is wrong."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from yaml.resolver import BaseResolver

from saga_coordinator.config import FileFaulty, read_documents, read_text
from saga_coordinator.config.files import TEXT_VALUES_MAX


def read(tmp_path: Path, text: str, name: str = "file.yaml") -> Any:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return [document.content for document in read_documents(file)]


def fault_of(tmp_path: Path, text: str | bytes, name: str = "file.yaml") -> str:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileFaulty) as caught:
        read_documents(file)
    assert str(caught.value).startswith(str(file))
    return str(caught.value).removeprefix(str(file))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("0o17", 15),
        ("010", 10),
        ("0x1F", 31),
        ("-7", -7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("'7'", "7"),
        ("!!str 7", "7"),
        ("300s", "300s"),
        ("${input.total}", "${input.total}"),
        ("<<", "<<"),
        ("=", "="),
    ],
)
def test_plain_scalars_mean_what_they_seem_to(tmp_path: Path, text: str, value: object) -> None:
    (content,) = read(tmp_path, f"value: {text}\n")
    assert content == {"value": value}
    assert type(content["value"]) is type(value)


def test_aliases_repeat_values(tmp_path: Path) -> None:
    (content,) = read(tmp_path, "a: &patient {max_attempts: 9}\nb: *patient\n")
    assert content == {"a": {"max_attempts": 9}, "b": {"max_attempts": 9}}


def test_several_documents_and_empty_ones(tmp_path: Path) -> None:
    assert read(tmp_path, "---\na: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_json_may_have_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, '{\n\t"a": [1, null]\n}', "file.json") == [{"a": [1, None]}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [1\nc: 2\n", ":3: is not YAML: "),
        ("a: 1\nb: 2\na: 3\n", ":3: the key 'a' is given twice"),
        ("a: 1\n\n5: x\n", ":3: the key '5' must be a string"),
        ("a: 1\n[b]: x\n", ":2: the key '' must be a string"),
        ("a: 1\nb: !!timestamp 2026-01-31\n", ":2: the tag tag:yaml.org,2002:timestamp has no meaning"),
        ("a: !!python/object:os.system x\n", ":1: the tag"),
        ("a: &x [*x]\n", ":1: refers to an anchor inside itself"),
        ("a: 1\nb: *x\n", ":2: is not YAML: found undefined alias"),
        ("a: !!int ten\n", ":1: ten is not a number"),
        ("a: 1\nb: \x00\n", ":2: must not contain the character U+0000"),
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text"),
        ("", ": is empty"),
        ("# nothing\n", ": is empty"),
        ("[" * 300 + "]" * 300, ":1: is nested too deeply, beyond 200 levels"),
        ("a: {order: ${input.id}, b: 1}", 'Between { and } put expressions in quotes: "${...}"'),
        (" " * (4 * 1024 * 1024 + 1), ": has more than 4194304 bytes, which is the limit"),
    ],
)
def test_faulty_yaml(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in fault_of(tmp_path, text)


@pytest.mark.parametrize("opening", ["[", "- ", "{a: "])
def test_yaml_that_is_nested_without_end(tmp_path: Path, opening: str) -> None:
    said = fault_of(tmp_path, opening * 100_000)
    assert "nest" in said  # by whom depends on whether PyYAML has its parser in C


def test_a_small_file_does_not_mean_a_huge_one(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "counting those behind aliases" in fault_of(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }', ":2: is not JSON: "),
        ('{"a": 1, "a": 2}', ": the key 'a' is given twice"),
        ("[" * 100_000, ": is nested too deeply"),
    ],
)
def test_faulty_json(tmp_path: Path, text: str, said: str) -> None:
    assert said in fault_of(tmp_path, text, "file.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileFaulty, match=r"absent\.yaml: cannot be read: No such file"):
        read_documents(tmp_path / "absent.yaml")


def test_places_are_found_again(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("name: x\nsteps:\n  - name: a\n    action:\n      input: {n: 1}\n  - name: b\n")
    (document,) = read_documents(file)
    assert document.locate("steps[0].action.input.n") == f"{file}:5"
    assert document.locate("steps[0].action.participant") == f"{file}:4"
    assert document.locate("steps[1]") == f"{file}:6"
    assert document.locate("steps[7].name") == f"{file}:2"
    assert document.locate("deadline") == f"{file}:1"


def test_places_in_json_are_not_known(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"name": "x"}))
    assert read_documents(file)[0].locate("name") == str(file)


NOT_KEPT = (
    "9007199254740993 cannot be kept as a number, which is a double and would be 9007199254740992 here; "
    "write it as a string"
)


@pytest.mark.parametrize("name", ["file.yaml", "file.json"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("9007199254740993", NOT_KEPT),
        ("-9007199254740993", "would be -9007199254740992 here"),
        (
            "1152921504606846976",
            "would be 1152921504606847000 here",
        ),  # a double, but nobody gives these digits back
        ("9007199254740993.0", "would be 9007199254740992 here"),
        ("9007199254740993e0", "would be 9007199254740992 here"),
        ("9" * 5000, "is beyond the range of a number; write it as a string"),
        ("1e400", "1e400 is beyond the range of a number"),
    ],
)
def test_a_number_that_would_change_is_refused_with_its_path(
    tmp_path: Path, name: str, written: str, said: str
) -> None:
    said_there = fault_of(tmp_path, f'{{"steps": [{{"action": {{"id": {written}}}}}]}}', name)
    assert ": steps[0].action.id: " in said_there
    assert said in said_there
    assert len(said_there) < 300


@pytest.mark.parametrize("written", ["0x20000000000001", ".inf", "-.inf", ".nan"])
def test_a_number_of_yaml_that_would_change_is_refused(tmp_path: Path, written: str) -> None:
    assert fault_of(tmp_path, f"a:\n  b: {written}\n").startswith(":2: a.b: ")


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path, written: str) -> None:
    assert (
        fault_of(tmp_path, f'{{"a": [{written}]}}', "file.json")
        == f": a[0]: {written} is no number that JSON knows"
    )


@pytest.mark.parametrize("name", ["file.yaml", "file.json"])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("9007199254740992", 2**53),
        ("-9007199254740992", -(2**53)),
        ("1234567890123456800", 1234567890123456800),
        ("1e21", 1e21),
        ("0.1234567890123456789", 0.12345678901234568),
        ("-0.0", -0.0),
        ("7", 7),
    ],
)
def test_a_number_that_a_double_gives_back_is_read(
    tmp_path: Path, name: str, written: str, value: float
) -> None:
    (content,) = read(tmp_path, f'{{"a": {written}}}', name)
    assert content == {"a": value}
    assert type(content["a"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [" + "1, " * TEXT_VALUES_MAX + "]",
        '{"a": [' + "1, " * TEXT_VALUES_MAX + "1]}",
        "- 1\n" * TEXT_VALUES_MAX,
    ],
    ids=["flow", "json", "block"],
)
def test_a_text_with_too_many_values_is_refused_in_whatever_notation(text: str) -> None:
    with pytest.raises(FileFaulty, match=f"^text: has more than {TEXT_VALUES_MAX} values and keys$"):
        read_text(text, "text")


def test_a_text_is_left_as_soon_as_it_has_too_many_values() -> None:
    """What is made of the rest of it would have to be freed as well."""
    with (
        mock.patch.object(
            BaseResolver, "resolve", autospec=True, side_effect=BaseResolver.resolve
        ) as resolve,
        pytest.raises(FileFaulty),
    ):
        read_text("[" + "1," * 3 * TEXT_VALUES_MAX + "]", "text")
    assert resolve.call_count == TEXT_VALUES_MAX


def test_what_stands_behind_several_aliases_is_read_each_time() -> None:
    assert read_text("{a: &a {b: [1]}, c: [*a, *a]}", "text").content == {
        "a": {"b": [1]},
        "c": [{"b": [1]}, {"b": [1]}],
    }
