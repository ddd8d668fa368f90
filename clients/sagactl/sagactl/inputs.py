"""Reads values that people give: JSON or YAML, in place, from a file (`@FILE`) or from standard input (`-`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sagactl.endings import WrongUsage


def read_text(file: str) -> str:
    """The text of a file, or of standard input for `-`. Raises WrongUsage."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongUsage(f"{file}: is no UTF-8 text") from None


def documents_in(text: str, source: str) -> list[Any]:
    """The documents of a text: one of JSON, lines of JSON, or several of YAML. Raises WrongUsage."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        pass
    import yaml  # noqa: PLC0415  # JSON needs none of it

    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError:
        lines = []
    if lines:
        return lines
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise WrongUsage(f"{source}: is neither JSON nor YAML: {' '.join(str(error).split())}") from None


def value_of(written: str) -> Any:
    """One value: JSON or YAML in place, `@FILE`, or `-` for standard input. Raises WrongUsage."""
    if written == "-" or written.startswith("@"):
        source = written.removeprefix("@")
        found = documents_in(read_text(source), source)
    else:
        source, found = "the value", documents_in(written, "the value")
    if len(found) != 1:
        raise WrongUsage(f"{source}: must be one value, and is {len(found)}")
    return found[0]


def object_of(written: str, what: str) -> dict[str, Any]:
    """The same for a value that must be an object. Raises WrongUsage."""
    value = value_of(written)
    if not isinstance(value, dict):
        raise WrongUsage(
            f'{what} must be an object, such as \'{{"name": "value"}}\', and is {json.dumps(value)[:80]}'
        )
    return value


def pairs_of(written: Sequence[str], flag: str) -> dict[str, str]:
    """`KEY=VALUE`s. Raises WrongUsage."""
    found = {}
    for each in written:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise WrongUsage(f"{flag} {each!r}: give KEY=VALUE")
        found[key] = value
    return found


def requests_from(written: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The requests of a call: each of `written`, or every document of standard input as it comes. Raises WrongUsage."""
    for each in written:
        if each != "-":
            yield object_of(each, "a request")
            continue
        for document in _streamed(sys.stdin):
            if not isinstance(document, dict):
                raise WrongUsage(f"a request must be an object, and is {json.dumps(document)[:80]}")
            yield document


def _streamed(lines: Iterator[str] | Any) -> Iterator[Any]:
    """The documents of a stream, each as soon as it is whole: lines of JSON, one JSON text of many lines, or YAML."""
    kept = ""
    for line in lines:
        kept += line
        if not kept.strip():
            kept = ""
            continue
        try:
            document = json.loads(kept)
        except json.JSONDecodeError:
            continue
        yield document
        kept = ""
    if kept.strip():
        yield from documents_in(kept, "standard input")
