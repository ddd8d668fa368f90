"""What files declare: definitions, participants, and kinds that only a newer server knows.

A document is a definition as `definitions get` prints it; or it has `participants`, as a participants file has them; or it says
its `kind`. A kind is declared by the method that takes it: `kind: schedule` by `PutSchedule`, `RegisterSchedule` or
`CreateSchedule`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagactl.endings import WrongUsage
from sagactl.inputs import documents_in, read_text

SUFFIXES = (".yaml", ".yml", ".json")
DEFINITION, PARTICIPANT = "definition", "participant"

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Declared:
    """One thing that a file declares. `source` says where it stands."""

    kind: str
    name: str
    spec: Plain
    source: str


def read_declared(places: Sequence[str]) -> list[Declared]:
    """What the files declare, and those of folders and their folders; definitions after what they call. Raises WrongUsage."""
    found = [each for file in _files(places) for each in _in_file(file)]
    seen: dict[tuple[str, str], Declared] = {}
    for each in found:
        before = seen.setdefault((each.kind, each.name), each)
        if before is not each:
            raise WrongUsage(
                f"{each.source}: {each.kind} `{each.name}` is declared in {before.source} as well"
            )
    others = [each for each in found if each.kind != DEFINITION]
    return [*others, *children_first([each for each in found if each.kind == DEFINITION])]


def _files(places: Sequence[str]) -> Iterator[str]:
    for place in places:
        path = Path(place).expanduser()
        if place == "-" or path.is_file():
            yield place
        elif path.is_dir():
            inside = sorted(
                each for each in path.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file()
            )
            if not inside:
                raise WrongUsage(f"{place}: has no files that end in {', '.join(SUFFIXES)}")
            yield from map(str, inside)
        else:
            raise WrongUsage(f"{place}: no such file or folder")


def _in_file(file: str) -> Iterator[Declared]:
    for number, document in enumerate(documents_in(read_text(file), file), 1):
        source = file if number == 1 else f"{file} (document {number})"
        if not isinstance(document, dict):
            raise WrongUsage(f"{source}: must be an object")
        yield from _in_document(document, source)


def _in_document(document: Plain, source: str) -> Iterator[Declared]:
    if "kind" in document:
        spec = {key: value for key, value in document.items() if key != "kind"}
        yield Declared(str(document["kind"]).lower(), _name(spec, source), spec, source)
    elif isinstance(document.get("participants"), dict):
        for name, spec in document["participants"].items():
            yield Declared(PARTICIPANT, str(name), {"name": str(name), **(spec or {})}, source)
    elif "steps" in document:
        yield Declared(DEFINITION, _name(document, source), document, source)
    else:
        raise WrongUsage(
            f"{source}: is neither a definition (`steps`) nor participants (`participants`), and says no `kind`"
        )


def _name(spec: Plain, source: str) -> str:
    name = spec.get("name")
    if not isinstance(name, str) or not name:
        raise WrongUsage(f"{source}: has no `name`")
    return name


def children_first(definitions: Sequence[Declared]) -> list[Declared]:
    """The definitions in their order, but each after those that it runs as children. Rings keep their order."""
    by_name = {each.name: each for each in definitions}
    ordered: dict[str, Declared] = {}
    begun: set[str] = set()

    def place(each: Declared) -> None:
        if each.name in begun:
            return
        begun.add(each.name)
        for child in _children(each.spec):
            if child in by_name:
                place(by_name[child])
        ordered[each.name] = each

    for each in definitions:
        place(each)
    return list(ordered.values())


def _children(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        child = value.get("saga")
        if isinstance(child, dict) and "definition" in child:
            yield str(child["definition"])
        for inner in value.values():
            yield from _children(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _children(inner)
