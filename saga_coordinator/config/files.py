"""Reads YAML and JSON strictly: a file means what it seems to mean, and each value's line is known, so that a message can name
it.

YAML is read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), in which `no` and `12:30:00` and
`2026-01-31` are strings, not a boolean, a number and a date. If a key is given twice, the file is refused.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from saga_coordinator.exact import NotKept, check_whole, number_of, shown

FILE_BYTES_MAX = 4 * 1024 * 1024
"""The largest file, in bytes: larger than any definition, directory or input may be."""

TEXT_BYTES_MAX = 256 * 1024
"""The largest text from somebody else, in bytes. It is read beside other work, and parsing a larger YAML text would slow down
everybody.
"""

TEXT_VALUES_MAX = 30_000
"""The most values and keys in such a text. YAML makes an object for each. If the text is refused, freeing all objects at once
holds the interpreter for half a microsecond each.
"""

NESTING_MAX = 200
"""The most levels of lists and objects in a file."""

VALUES_MAX = 200_000
"""The most values and keys in a file. Aliases can make a small file stand for a huge one, so a file with more is refused."""

_TAG = "tag:yaml.org,2002:"
_LOOKED_AT_MAX = 1000
"""The number of characters on either side of a fault that are searched for a way to mend it."""


class FileFaulty(Exception):
    """A file cannot be read as what it should be. The message begins with the file's name and, if it is known, the line."""


class _TooManyValues(FileFaulty):
    """The text has more values than allowed. Reading it in the other notation would not help."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON-like value from a file. `lines` gives the line, counted from 1, of the value at a path such as
    `steps[2].action`.
    """

    content: Any
    source: str
    lines: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of the value at `path`, or of the nearest value around it; None if lines are not known."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)

    def locate(self, path: str) -> str:
        """`FILE:LINE` of the value at `path`, or of the nearest value around it; `FILE` alone if lines are not known."""
        line = self.line_of(path)
        return self.source if line is None else f"{self.source}:{line}"


def read_documents(path: Path) -> list[Document]:
    """Reads the documents of a YAML file, or the only document of a `.json` file; `-` is YAML from standard input.

    Raises:
        FileFaulty: it cannot be read, is not YAML or JSON, is ambiguous, or has a number that would change on its way.
    """
    source = "standard input" if str(path) == "-" else str(path)
    text = _text(path, source)
    try:
        found = (
            [Document(read_json(text, source), source)]
            if path.suffix == ".json"
            else list(_read_yaml(text, source, VALUES_MAX))
        )
    except RecursionError:
        raise FileFaulty(f"{source}: is nested too deeply, beyond {NESTING_MAX} levels") from None
    if not found:
        raise FileFaulty(f"{source}: is empty")
    return found


def read_text(text: str, source: str) -> Document:
    """Reads the only document in a text of YAML or JSON. Raises FileFaulty as `read_documents` does, and if there are several
    documents.
    """
    if (size := len(text.encode())) > TEXT_BYTES_MAX:
        raise FileFaulty(f"{source}: has {size} bytes; {TEXT_BYTES_MAX} is the limit")
    try:
        found = list(_read_yaml(text, source, TEXT_VALUES_MAX))
    except RecursionError:
        raise FileFaulty(f"{source}: is nested too deeply, beyond {NESTING_MAX} levels") from None
    except _TooManyValues:
        raise
    except FileFaulty:
        found = list(_read_json_alone(text, source))
        if not found:
            raise
    if len(found) != 1:
        raise FileFaulty(f"{source}: has {len(found)} documents; give exactly one")
    return found[0]


def _read_json_alone(text: str, source: str) -> Iterator[Document]:
    """Reads JSON that is no YAML, because it has escapes of characters beyond U+FFFF. The lines of its values are not known."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(FileFaulty, RecursionError):
            yield Document(read_json(text, source), source)


def _text(path: Path, source: str) -> str:
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise FileFaulty(f"{source}: cannot be read: {error.strerror}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise FileFaulty(f"{source}: has more than {FILE_BYTES_MAX} bytes, which is the limit")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileFaulty(f"{source}:{line}: is not UTF-8 text") from None


@dataclass(frozen=True, slots=True)
class _Refused:
    """Takes the place of a number that JSON does not know or that would change, until the number's path is known."""

    why: str


def read_json(text: str, source: str) -> Any:
    """Reads the JSON value in `text`. Raises FileFaulty as `read_documents` does."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise FileFaulty(f"{source}: the key {twice!r} is given twice in one object")
        return content

    refused: list[_Refused] = []

    def number(written: str) -> Any:
        try:
            return number_of(written)
        except NotKept as error:
            refused.append(_Refused(str(error)))
            return refused[-1]

    def constant(written: str) -> Any:
        refused.append(_Refused(f"{written} is no number that JSON knows"))
        return refused[-1]

    try:
        content = json.loads(
            text, object_pairs_hook=unique, parse_int=number, parse_float=number, parse_constant=constant
        )
    except json.JSONDecodeError as error:
        raise FileFaulty(f"{source}:{error.lineno}: is not JSON: {error.msg}") from None
    for first in refused:
        raise FileFaulty(f"{source}: {_path_to(first, content)}{first.why}")
    return content


def _path_to(wanted: _Refused, content: Any) -> str:
    """The path of the refused number, with a colon: `steps[0].action.input.id: `; empty if the number is the whole document."""
    found: list[tuple[str, Any]] = [("", content)]
    while found:
        path, value = found.pop()
        if value is wanted:
            return f"{path}: " if path else ""
        if isinstance(value, dict):
            found += [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
        elif isinstance(value, list):
            found += [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return ""


class _CoreLoader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]  # a base of two
    """Composes nodes whose tags are those of the core schema, no more than `values_max` of them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way; filled below

    def __init__(self, text: str, *, source: str, values_max: int) -> None:
        super().__init__(text)
        self._source = source
        self._values_max = values_max
        self._values = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node. The loader asks for it once for each node, when it makes the node."""
        self._values += 1
        if self._values > self._values_max:
            raise _TooManyValues(f"{self._source}: has more than {self._values_max} values and keys")
        return super().resolve(kind, value, implicit)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def _read_yaml(text: str, source: str, values_max: int) -> Iterator[Document]:
    loader: Any = partial(_CoreLoader, source=source, values_max=values_max)
    try:
        for node in yaml.compose_all(text, loader):
            reader = _NodeReader(source, values_max)
            content = reader.value(node, "")
            _take_apart(node)
            if content is not None:
                yield Document(content, source, reader.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        said = "; ".join(part for part in (error.context, error.problem) if part)
        raise FileFaulty(f"{where}: is not YAML: {said}{_way_out(text, mark)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FileFaulty(f"{source}:{line}: must not contain the character U+{error.character:04X}") from None


def _take_apart(node: yaml.Node | None) -> None:
    """Frees nodes one by one. Freeing a large document at once would hold the interpreter, and with it everybody else at
    work.
    """
    nodes = [] if node is None else [node]
    while nodes:
        opened = nodes.pop()
        inner, opened.value = opened.value, None  # what an alias stands for is met twice
        if isinstance(inner, list):
            for each in inner:
                nodes.extend(each if isinstance(each, tuple) else (each,))


def _way_out(text: str, mark: yaml.Mark | None) -> str:
    """The advice that mends the commonest fault: inside YAML's own `{...}`, the braces of an expression are taken for
    YAML's.
    """
    if mark is None:
        return ""
    begin = text.rfind("\n", 0, mark.index) + 1
    line = text[max(begin, mark.index - _LOOKED_AT_MAX) : mark.index + _LOOKED_AT_MAX].partition("\n")[0]
    if re.search(r"""(?<!["'])\$\{""", line):
        return '. Between { and } put expressions in quotes: "${...}"'
    return ""


class _NodeReader:
    """Turns the nodes of one document into values, and remembers their lines."""

    def __init__(self, source: str, values_max: int) -> None:
        self.lines: dict[str, int] = {}
        self._source = source
        self._values_max = values_max
        self._open: list[yaml.Node] = []
        self._count = 0

    def value(self, node: yaml.Node, path: str) -> Any:
        self._count += 1
        if self._count > self._values_max:
            raise self._fault(node, f"has more than {self._values_max} values, counting those behind aliases")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if any(node is opened for opened in self._open):
            raise self._fault(node, "refers to an anchor inside itself")
        if len(self._open) >= NESTING_MAX:
            raise self._fault(node, f"is nested too deeply, beyond {NESTING_MAX} levels")
        self._open.append(node)
        try:
            match node:
                case yaml.MappingNode(tag=tag) if tag == _TAG + "map":
                    return self._mapping(node, path)
                case yaml.SequenceNode(tag=tag) if tag == _TAG + "seq":
                    return [self.value(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
                case yaml.ScalarNode():
                    return self._scalar(node, path)
                case _:
                    raise self._fault(node, f"the tag {node.tag} has no meaning here")
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                raise self._fault(
                    key_node,
                    f"the key {key if isinstance(key, str) else ''!r} must be a string: put it in quotes",
                )
            if key in content:
                raise self._fault(key_node, f"the key {key!r} is given twice")
            inner = f"{path}.{key}" if path else key
            self.lines[inner] = key_node.start_mark.line + 1
            content[key] = self.value(value_node, inner)
        return content

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float" as kind:
                try:
                    return _whole(text) if kind == "int" else _double(text)
                except NotKept as error:
                    raise self._fault(node, f"{path}: {error}" if path else str(error)) from None
                except ValueError:
                    raise self._fault(node, f"{shown(text)} is not a number") from None
            case _:
                raise self._fault(node, f"the tag {node.tag} has no meaning here")

    def _fault(self, node: yaml.Node, description: str) -> FileFaulty:
        return FileFaulty(f"{self._source}:{node.start_mark.line + 1}: {description}")


def _whole(text: str) -> int | float:
    base = {"0o": 8, "0x": 16}.get(text[:2])
    return number_of(text) if base is None else check_whole(int(text, base))


def _double(text: str) -> int | float:
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        raise NotKept(f"{text} is no number that JSON knows")
    return float(number_of(text))
