"""Finds what the author of a definition wrote for each step, in the definition's JSON form. The parsed definition does not
tell, because parsing fills in the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Written:
    """The content that was written at a path, such as `steps[2].action`."""

    path: str
    content: Any

    def field(self, name: str) -> Written:
        """The field of that snake-case name, however it is spelled; its content is None when it was not given."""
        for spelling in (name, _camel(name)):
            if isinstance(self.content, Mapping) and self.content.get(spelling) is not None:
                return Written(f"{self.path}.{spelling}".lstrip("."), self.content[spelling])
        return Written(f"{self.path}.{name}".lstrip("."), None)

    def items(self) -> Iterator[Written]:
        """The items, if the content is a list."""
        for index, item in enumerate(self.content if isinstance(self.content, list) else ()):
            yield Written(f"{self.path}[{index}]", item)

    @property
    def is_given(self) -> bool:
        return self.content is not None


def written_steps(source: Any) -> dict[str, Written]:
    """The content that was written for each step, by the step's name, including the steps in blocks."""
    return {step.content["name"]: step for step in _steps(Written("", source))}


def _steps(block: Written) -> Iterator[Written]:
    for step in block.field("steps").items():
        yield step
        switch = step.field("switch")
        inner = [*switch.field("cases").items(), switch.field("otherwise")]
        for each in (*inner, step.field("for_each"), step.field("repeat")):
            yield from _steps(each)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found.group(1).upper(), name)
