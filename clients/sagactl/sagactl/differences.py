"""What differs between two plain values, place by place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """A place, and what stands there before and after. None means that nothing does."""

    path: str
    before: Any
    after: Any

    @property
    def text(self) -> str:
        """The difference in one line."""
        if self.before is None:
            return f"+ {self.path}: {_shown(self.after)}"
        if self.after is None:
            return f"- {self.path}: {_shown(self.before)}"
        return f"~ {self.path}: {_shown(self.before)} -> {_shown(self.after)}"


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """The differences, in the order of the fields. Items of a list that have names are compared by name."""
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            yield from differences(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
    elif _has_names(before) and _has_names(after):
        yield from _of_named(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{index}]")
    else:
        yield Difference(path or "(all)", before, after)


def _of_named(before: list[Any], after: list[Any], path: str) -> Iterator[Difference]:
    old = {each["name"]: each for each in before}
    new = {each["name"]: each for each in after}
    for name in {**old, **new}:
        yield from differences(old.get(name), new.get(name), f"{path}[{name}]")
    if list(old) != list(new) and old.keys() == new.keys():
        yield Difference(f"{path} (order)", list(old), list(new))


def _has_names(value: Any) -> bool:
    if not isinstance(value, list) or not all(
        isinstance(each, Mapping) and each.get("name") for each in value
    ):
        return False
    return len({each["name"] for each in value}) == len(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."
