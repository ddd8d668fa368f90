"""What a definition in its JSON form makes a saga do, worked out without the core: which instances run, and in which order.

It knows only the few expressions that `definitions.py` and `nested.py` write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PAYLOAD: dict[str, Any] = {
    "n": 1,
    "yes": True,
    "no": False,
    "none": [],
    "one": ["a"],
    "three": ["a", "b", "c"],
}
"""The input of every random saga."""

CONDITIONS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "input.yes": lambda _: True,
    "input.no": lambda _: False,
    "input.n == 1": lambda _: True,
    "size(input.three) > 3": lambda _: False,
    "item != 'b'": lambda variables: bool(variables["item"] != "b"),
    "index == 1": lambda variables: bool(variables["index"] == 1),
    "number > 1": lambda variables: bool(variables["number"] > 1),
}
"""Conditions whose truth is known beforehand."""

CHILD = {
    "participant": "@saga",
    "retry": {"max_attempts": 1000, "initial_backoff": "0.1s", "max_backoff": "10s"},
}
"""What calls of child sagas are like: `parsing_actions.read_child`."""

LOOPS = ("for_each", "repeat")
WAITS = ("delay", "await_event", "approval")
Path = tuple[tuple[str, int | None], ...]


def seconds(text: str) -> float:
    """A duration in the JSON form: `1.5s`."""
    return float(text.removesuffix("s"))


@dataclass(frozen=True)
class Leaf:
    """An instance of a step that runs no block. `path`: its step and those around it, outermost first, with their indexes."""

    key: str
    source: dict[str, Any]
    path: Path
    correlation: str = ""

    @property
    def is_call(self) -> bool:
        return not any(self.source.get(kind) for kind in WAITS)

    @property
    def needs_failure_of(self) -> str | None:
        """The name of the step that must have failed for this one to run."""
        when = self.source.get("when", "")
        return when.split(".")[1] if when.endswith("== 'FAILED'") else None


@dataclass(frozen=True)
class Loop:
    """A for_each that runs. `members` are the instances of each of its items."""

    key: str
    max_parallel: int
    members: dict[int, set[str]] = field(default_factory=dict)


class Plan:
    def __init__(self, source: dict[str, Any]) -> None:
        self.is_doomed = False
        """Whether a loop's condition will not hold in time."""
        self.skipped: set[str] = set()
        """Instances whose condition is known to be false; those in their blocks come into being never."""
        self.loops: list[Loop] = []
        self.by_name: dict[str, dict[str, Any]] = {}
        self._above: dict[str, set[str]] = {}
        self._name(source["steps"])
        self.leaves = {leaf.key: leaf for leaf in self._expand(source["steps"], "", (), {})}
        self.before = {
            key: {other for other, each in self.leaves.items() if self._comes_after(leaf, each)}
            for key, leaf in self.leaves.items()
        }
        self.after = {
            key: {other for other, above in self.before.items() if key in above} for key in self.leaves
        }

    def source_of(self, key: str) -> dict[str, Any]:
        return self.by_name[key.rpartition(".")[2]]

    def on_failure(self, key: str) -> str:
        source = self.source_of(key)
        said = source.get("action", {}).get("on_failure") or source.get("on_failure")
        return said or ("pause" if source.get("recovery") == "forward" else "compensate")

    def is_undo_optional(self, key: str) -> bool:
        return bool(self.source_of(key).get("compensation", {}).get("on_failure") == "continue")

    def _name(self, steps: list[dict[str, Any]]) -> None:
        self._above |= ancestors(steps)
        for step in steps:
            self.by_name[step["name"]] = step
            for block in _blocks(step):
                self._name(block["steps"])

    def _expand(
        self, steps: list[dict[str, Any]], prefix: str, path: Path, variables: dict[str, Any]
    ) -> Iterator[Leaf]:
        for step in steps:
            key = prefix + step["name"]
            when = step.get("when", "input.yes")
            if when in CONDITIONS and not CONDITIONS[when](variables):
                self.skipped.add(key)
            elif "switch" in step:
                yield from self._expand_switch(step, prefix, (*path, (step["name"], None)), variables)
            elif "for_each" in step:
                yield from self._expand_for_each(step, key, path, variables)
            elif "repeat" in step:
                yield from self._expand_repeat(step, key, path, variables)
            else:
                text = step.get("await_event", {}).get("correlation", "")
                correlation = text.replace("${index}", str(variables.get("index")))
                yield Leaf(key, step, (*path, (step["name"], None)), correlation)

    def _expand_switch(
        self, step: dict[str, Any], prefix: str, path: Path, variables: dict[str, Any]
    ) -> Iterator[Leaf]:
        for case in [*step["switch"]["cases"], step["switch"].get("otherwise", {"steps": []})]:
            if CONDITIONS[case.get("when", "input.yes")](variables):
                if not case["steps"]:
                    self.skipped.add(prefix + step["name"])
                yield from self._expand(case["steps"], prefix, path, variables)
                return

    def _expand_for_each(
        self, step: dict[str, Any], key: str, path: Path, variables: dict[str, Any]
    ) -> Iterator[Leaf]:
        source = step["for_each"]
        loop = Loop(key, source.get("max_parallel", 0))
        for index, item in enumerate(PAYLOAD[source["items"].removeprefix("input.")]):
            inside = list(
                self._expand(
                    source["steps"],
                    f"{key}[{index}].",
                    (*path, (step["name"], index)),
                    {**variables, "item": item, "index": index},
                )
            )
            loop.members[index] = {leaf.key for leaf in inside}
            yield from inside
        self.loops.append(loop)

    def _expand_repeat(
        self, step: dict[str, Any], key: str, path: Path, variables: dict[str, Any]
    ) -> Iterator[Leaf]:
        source = step["repeat"]
        wanted, most = int(source["until"].removeprefix("number >= ")), source["max_passes"]
        self.is_doomed |= wanted > most
        for index in range(min(wanted, most)):
            yield from self._expand(
                source["steps"],
                f"{key}[{index}].",
                (*path, (step["name"], index)),
                {**variables, "number": index + 1},
            )

    def _comes_after(self, leaf: Leaf, other: Leaf) -> bool:
        """Whether the leaf starts only when the other is over: by the first place where their paths part."""
        for (name, index), (other_name, other_index) in zip(leaf.path, other.path, strict=False):
            if name != other_name:
                return other_name in self._above[name]
            if index != other_index:
                assert index is not None
                assert other_index is not None
                return self._is_in_turn(name) and index > other_index
        return False

    def _is_in_turn(self, name: str) -> bool:
        """Whether the loop's passes or items follow each other, rather than run at once."""
        source = self.by_name[name]
        return "repeat" in source or source["for_each"].get("max_parallel") == 1


def _blocks(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "switch" in step:
        yield from step["switch"]["cases"]
        yield from [step["switch"]["otherwise"]] if "otherwise" in step["switch"] else []
    for kind in LOOPS:
        if kind in step:
            yield step[kind]


def ancestors(steps: list[dict[str, Any]]) -> dict[str, set[str]]:
    """For each step of one block, those of the block that end before it starts."""
    names = [each["name"] for each in steps]
    is_linear = not any(each.get("after") for each in steps)
    above: dict[str, set[str]] = {}
    for index, each in enumerate(steps):  # written in an order in which they can run
        direct = names[:index] if is_linear else each.get("after", [])
        above[each["name"]] = set(direct).union(*(above[other] for other in direct))
    return above
