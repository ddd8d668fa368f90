"""What files declare, how it differs, what is read from a command line, and the table of verbs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sagactl.declared import read_declared
from sagactl.differences import differences
from sagactl.endings import WrongUsage
from sagactl.inputs import documents_in, pairs_of, requests_from, value_of
from sagactl.program import program


def declared_in(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [f"{each.kind} {each.name}" for each in read_declared([str(folder)])]


def test_children_come_before_those_who_run_them_and_participants_before_all(tmp_path: Path) -> None:
    found = declared_in(
        tmp_path,
        a="{name: parent, steps: [{name: s, switch: {cases: [{when: 'true', steps: [{name: c, saga: {definition: child}}]}]}}]}",
        b="{name: child, steps: [{name: s, saga: {definition: grandchild}}]}\n---\nparticipants: {shop: {target: 'a'}, worker: }",
        c="{name: grandchild, steps: []}",
    )
    assert found == [
        "participant shop",
        "participant worker",
        "definition grandchild",
        "definition child",
        "definition parent",
    ]


def test_rings_of_definitions_keep_their_order(tmp_path: Path) -> None:
    ring = "{name: %s, steps: [{name: s, saga: {definition: %s}}]}"
    assert declared_in(tmp_path, a=ring % ("a", "b"), b=ring % ("b", "a")) == ["definition b", "definition a"]


def test_a_kind_that_nobody_here_knows_is_left_to_the_server(tmp_path: Path) -> None:
    assert declared_in(tmp_path, a="{kind: Schedule, name: nightly, cron: '0 3 * * *'}") == [
        "schedule nightly"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a", "neither a definition"),
        ("steps: []", "no `name`"),
        ("- 1", "must be an object"),
        ("{", "neither JSON nor YAML"),
        ("{name: a, steps: []}\n---\n{name: a, steps: []}", "declared in .* as well"),
    ],
)
def test_faults_are_told_with_their_file(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(WrongUsage, match=said) as caught:
        read_declared([str(tmp_path)])
    assert "a.yaml" in str(caught.value)


def test_a_folder_without_files_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="has no files"):
        read_declared([str(tmp_path)])
    with pytest.raises(WrongUsage, match="no such file or folder"):
        read_declared([str(tmp_path / "nowhere")])


def test_differences_are_told_place_by_place() -> None:
    before = {"name": "o", "steps": [{"name": "a", "delay": "1s"}, {"name": "b"}], "list": [1, 2]}
    after = {
        "name": "o",
        "steps": [{"name": "b", "pivot": True}, {"name": "a", "delay": "2s"}],
        "list": [1, 3],
        "new": None,
    }
    assert [each.text for each in differences(before, after)] == [
        '~ steps[a].delay: "1s" -> "2s"',
        "+ steps[b].pivot: true",
        '~ steps (order): ["a", "b"] -> ["b", "a"]',
        "~ list[1]: 2 -> 3",
    ]
    assert not list(differences(before, before))


def test_values_are_json_or_yaml_in_place_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"a": [1]}')
    assert value_of("{a: 1}") == {"a": 1}
    assert value_of("3") == 3
    assert value_of(f"@{tmp_path}/v.json") == {"a": [1]}
    assert documents_in('{"a": 1}\n{"a": 2}\n', "it") == [{"a": 1}, {"a": 2}]
    assert documents_in("a: 1\n---\na: 2\n", "it") == [{"a": 1}, {"a": 2}]
    assert pairs_of(["a=b=c"], "--label") == {"a": "b=c"}
    for wrong in (
        lambda: value_of("@/nonexistent"),
        lambda: value_of("a: 1\n---\nb: 2"),
        lambda: pairs_of(["a"], "--label"),
    ):
        with pytest.raises(WrongUsage):
            wrong()


def test_requests_of_a_stream_are_read_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in ('{"a": 1}\n', '{"a":\n', " 2}\n", "\n", '{"a": 3}\n'):
            taken.append(line)
            yield line

    class Stream(io.StringIO):
        def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # a stream of lines that come one by one
            return lines()

    monkeypatch.setattr("sys.stdin", Stream())
    requests = requests_from(["-"])
    assert next(requests) == {"a": 1}
    assert len(taken) == 1
    assert list(requests) == [{"a": 2}, {"a": 3}]


def leaves(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found)


def test_no_flag_of_a_command_hides_one_that_every_command_takes() -> None:
    for command in leaves(program):
        names = [parameter.name for parameter in command.params]
        flags = [flag for parameter in command.params for flag in parameter.opts]
        assert len(set(names)) == len(names), command.name
        assert len(set(flags)) == len(flags), command.name
        assert command.help or command.callback is None, command.name
