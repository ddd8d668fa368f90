"""Reads a JSON object field by field, and notes every fault on the way instead of stopping at the first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX

_DURATION = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


class JsonObject:
    """A JSON object that is being read field by field. Fields that were not read before `finish` are unknown fields."""

    def __init__(self, source: Any, path: str, faults: list[Fault], *, is_map: bool = False) -> None:
        self.path = path
        self.faults = faults
        self._fields: dict[str, Any] = {}
        self._known: set[str] = set()
        if not isinstance(source, Mapping):
            self.fault("", "must be an object")
            return
        for key, value in source.items():
            name = str(key)
            if not is_map:  # whose keys are the author's own words
                name = _CAMEL_HUMP.sub(lambda hump: "_" + hump[1].lower(), name)
            if name in self._fields:
                self.fault(name, f"is given twice, the second time as `{key}`")
            self._fields[name] = value

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields that are given."""
        return tuple(self._fields)

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path and name else self.path or name

    def fault(self, name: str, description: str) -> None:
        self.faults.append(Fault(self.at(name), description))

    def raw(self, name: str) -> Any:
        self._known.add(name)
        return self._fields.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(name, "must be a string")
            return default
        if problem := text_problem(value):
            self.fault(name, problem)
            return default
        if len(value.encode()) > TEXT_BYTES_MAX:
            self.fault(name, f"must be at most {TEXT_BYTES_MAX} bytes")
            return default
        return value

    def name(self, name: str, pattern: re.Pattern[str], what: str) -> str:
        faults_before = len(self.faults)
        value = self.text(name)
        if len(self.faults) > faults_before:
            return value
        if not value:
            self.fault(name, f"is required: the name of {what}")
        elif not pattern.fullmatch(value):
            self.fault(name, f"`{value[:80]}` is not a name: it must match {pattern.pattern}")
        return value

    def flag(self, name: str) -> bool:
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            self.fault(name, "must be true or false")
        return value is True

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            self.fault(name, "must be a number")
        elif (
            value == 0 and minimum > 0
        ):  # what the contract leaves out is not there; who writes 0 means something
            self.fault(
                name, f"is 0; it must be between {minimum:g} and {maximum:g}, or be left out for the default"
            )
        elif not minimum <= value <= maximum:
            self.fault(name, f"is {value:g}; it must be between {minimum:g} and {maximum:g}")
        else:
            return float(value)
        return default

    def whole(self, name: str, default: int, minimum: int, maximum: int) -> int:
        value = self.number(name, default, minimum, maximum)
        if value != int(value):
            self.fault(name, "must be a whole number")
        return int(value)

    def seconds(self, name: str, default: float | None, maximum: float) -> float | None:
        value = self.raw(name)
        if value is None:
            return default
        seconds = self._seconds(name, value, maximum)
        return default if seconds is None else seconds

    def each_seconds(self, name: str, maximum: float) -> list[float]:
        """The sound ones of a list of durations, in seconds."""
        found = (
            self._seconds(f"{name}[{index}]", value, maximum) for index, value in enumerate(self.each(name))
        )
        return [seconds for seconds in found if seconds is not None]

    def _seconds(self, name: str, value: Any, maximum: float) -> float | None:
        if not isinstance(value, str) or not _DURATION.fullmatch(value):
            self.fault(name, 'must be a duration in seconds such as "2s" or "0.25s"')
        elif not 0.001 <= float(value[:-1]) <= maximum:
            self.fault(name, f'is {value}; it must be between "0.001s" and "{maximum:.0f}s"')
        else:
            return float(value[:-1])
        return None

    def each(self, name: str) -> list[Any]:
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fault(name, "must be a list")
            return []
        return value

    def object(self, name: str) -> JsonObject | None:
        value = self.raw(name)
        return None if value is None else JsonObject(value, self.at(name), self.faults)

    def map(self, name: str) -> JsonObject | None:
        """An object whose keys are data and not field names, so that their spelling is not changed."""
        value = self.raw(name)
        return None if value is None else JsonObject(value, self.at(name), self.faults, is_map=True)

    def finish(self) -> None:
        for name in self._fields:
            if name not in self._known:
                known = sorted(self._known)
                self.fault(name, f"unknown field; known here: {', '.join(known)}{did_you_mean(name, known)}")


def text_problem(text: str) -> str | None:
    """The reason why the text cannot be stored, or None."""
    if "\0" in text:
        return "must not contain NUL characters"
    if not text.isascii() and _SURROGATE.search(text):
        return "must be valid Unicode, without lone surrogates"
    return None


def is_finite(number: float) -> bool:
    """Tells whether a double can hold the number."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
