"""Writes results in the format that was asked for: table, wide, json, jsonl or yaml."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sagactl.showing.terminal import Terminal, clean, padded, width
from sagactl.showing.values import colour_of, picked, with_fields, worded

FORMATS = ("table", "wide", "json", "jsonl", "yaml")
_LAID_OUT = 200
"""By how many rows the widths of columns are chosen. Later rows are written as they come, so that a long list begins at once."""

_NARROW = 8
"""No column of a table is made narrower than that."""

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `value` is the path of a field, or makes the text. Wide columns are shown by `wide` only."""

    title: str
    value: str | Callable[[Plain], str]
    is_wide: bool = False

    def text(self, row: Plain) -> str:
        """What stands in the row."""
        return clean(worded(picked(row, self.value)) if isinstance(self.value, str) else self.value(row))


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go, and how. `fields` are the paths that were asked for; none means all."""

    form: str
    fields: tuple[str, ...]
    terminal: Terminal

    @property
    def is_for_people(self) -> bool:
        """Whether a table or a drawing is wanted, rather than data."""
        return self.form in ("table", "wide")

    def many(self, rows: Iterable[Plain], columns: Sequence[Column]) -> int:
        """Writes a list, as its rows come. Returns how many there were."""
        counted = _Counted(rows)
        if self.is_for_people:
            self._table(counted, self._columns(columns))
        elif self.form == "json":
            self._array(counted)
        else:
            for row in counted:
                self._item(row)
        return counted.count

    def one(self, value: Plain, text: Callable[[], str]) -> None:
        """Writes one result: for people what `text` makes, unless they asked for fields."""
        if self.is_for_people and not self.fields:
            self.line(text())
        elif self.is_for_people:
            for path, field in with_fields(value, self.fields).items():
                self.line(f"{path}: {clean(worded(field))}" if len(self.fields) > 1 else clean(worded(field)))
        elif self.form == "json":
            self.line(_json(self._picked(value), indent=2))
        else:
            self._item(value)

    def item(self, value: Plain, text: Callable[[], str]) -> None:
        """Writes one result of a stream, which is at once there for the reader. JSON is one object a line here, too."""
        if self.is_for_people:
            self.one(value, text)
        elif self.form == "yaml":
            self._item(value)
        else:
            self.line(_json(self._picked(value)))
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Writes a line, or several."""
        sys.stdout.write(text.rstrip("\n") + "\n")

    def _picked(self, value: Plain) -> Plain:
        return with_fields(value, self.fields) if self.fields else value

    def _item(self, value: Plain) -> None:
        if self.form == "yaml":
            self.line("---\n" + yaml_text(self._picked(value)))
        else:
            self.line(_json(self._picked(value)))

    def _array(self, rows: Iterable[Plain]) -> None:
        written = 0
        for row in rows:
            self.line(
                f"{',' if written else '['}\n{_json(self._picked(row), indent=2)}"
                if written
                else f"[\n{_json(self._picked(row), indent=2)}"
            )
            written += 1
        self.line("]" if written else "[]")

    def _columns(self, columns: Sequence[Column]) -> list[Column]:
        if self.fields:
            return [Column(path.upper(), path) for path in self.fields]
        return [each for each in columns if self.form == "wide" or not each.is_wide]

    def _table(self, rows: Iterable[Plain], columns: Sequence[Column]) -> None:
        remaining = iter(rows)
        first = [[column.text(row) for column in columns] for row in itertools.islice(remaining, _LAID_OUT)]
        if not first:
            return
        widths = [
            max(width(column.title), *(width(cells[index]) for cells in first))
            for index, column in enumerate(columns)
        ]
        if self.form == "table" and self.terminal.is_terminal:
            if not is_wide_enough(widths, self.terminal.columns):
                self._blocks(
                    columns,
                    itertools.chain(first, ([each.text(row) for each in columns] for row in remaining)),
                )
                return
            widths = fitted(widths, self.terminal.columns)
        self._row([column.title for column in columns], widths, "bold")
        for cells in first:
            self._row(cells, widths)
        for row in remaining:
            self._row([column.text(row) for column in columns], widths)

    def _blocks(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Writes a block of lines for each row, where the terminal is too narrow for a table."""
        indent = max(width(column.title) for column in columns[1:]) + 4 if len(columns) > 1 else 0
        for head, *rest in rows:
            self.line(self.terminal.styled(self.terminal.cut(head, self.terminal.columns), "bold"))
            for column, cell in zip(columns[1:], rest, strict=True):
                if cell:
                    text = self.terminal.cut(cell, self.terminal.columns - indent)
                    self.line(
                        padded(f"  {column.title}", indent) + self.terminal.styled(text, colour_of(cell))
                    )

    def _row(self, cells: Sequence[str], widths: Sequence[int], style: str = "") -> None:
        told = []
        for index, (cell, columns) in enumerate(zip(cells, widths, strict=True)):
            is_last = index == len(cells) - 1
            cut = (
                self.terminal.cut(cell, columns)
                if self.form == "table" and self.terminal.is_terminal
                else cell
            )
            padding = "" if is_last else padded(cut, columns)[len(cut) :]
            told.append(self.terminal.styled(cut, style or colour_of(cell)) + padding)
        self.line("  ".join(told).rstrip())


class _Counted:
    """An iterable that counts what was taken."""

    def __init__(self, rows: Iterable[Plain]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Any:
        for row in self._rows:
            self.count += 1
            yield row


def is_wide_enough(widths: Sequence[int], columns: int) -> bool:
    """Whether a table fits whose first column is whole, and whose others have at least `_NARROW`."""
    others = sum(min(each, _NARROW) for each in widths[1:])
    return widths[0] + others + 2 * (len(widths) - 1) <= columns


def fitted(widths: Sequence[int], columns: int) -> list[int]:
    """The widths that fit, with two columns between. The widest give way, but not the first, which names the row."""
    room = columns - 2 * (len(widths) - 1)
    fitting = list(widths)
    while sum(fitting) > room and len(fitting) > 1:
        widest = max(range(1, len(fitting)), key=lambda index: fitting[index])
        if fitting[widest] <= _NARROW:
            break
        fitting[widest] -= 1
    return fitting


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def yaml_text(value: Any) -> str:
    """The value as YAML, with its fields in their order."""
    import yaml  # noqa: PLC0415  # only those who ask for it wait for it

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    return text
