"""Which instances of a definition's steps run, and in which order, as far as that is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proof.conditions import holds
from proof.plan import Instance, Plan, Run, branch_of, comes_after

CHILD: Mapping[str, Any] = {
    "participant": "@saga",
    "retry": {"max_attempts": 1000, "initial_backoff": "0.1s", "max_backoff": "10s"},
}
"""What calls of child sagas are like: `parsing_actions.read_child`."""


def seconds(text: str) -> float:
    """A duration in the JSON form: `1.5s`."""
    return float(text.removesuffix("s"))


class Foreseen:
    """Of a saga with that input. Only what depends on the failure of another step is left open."""

    def __init__(self, source: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.plan = Plan(source, given)
        self.given = given
        self.leaves: dict[str, Instance] = {}
        """Those that run no block, and those that cannot but fail."""
        self.hopeless: set[str] = set()
        """Those whose condition cannot be computed, and loops whose condition will not hold in time."""
        self.skipped: set[str] = set()
        """Those whose condition is known to be false; those in their blocks come into being never."""
        self.loops: list[Instance] = []
        """Every for_each that runs."""
        self._walk(self.plan.root)
        self.before = {
            key: {other for other, each in self.leaves.items() if comes_after(leaf, each)}
            for key, leaf in self.leaves.items()
        }
        self.after = {
            key: {other for other, above in self.before.items() if key in above} for key in self.leaves
        }

    def _walk(self, run: Run) -> None:
        for each in run.instances.values():
            meant = True if self.needs_failure_of(each) else holds(each.spec.get("when"), run.variables)
            if meant is None:
                self._give_up(each)
            elif not meant:
                self.skipped.add(each.key)
            elif each.kind == "switch":
                self._take(each, branch_of(each))
            elif each.kind == "for_each":
                self.loops.append(each)
                for item in each.runs:
                    self._walk(item)
            elif each.kind == "repeat":
                self._repeat(each)
            else:
                self.leaves[each.key] = each

    def _give_up(self, each: Instance) -> None:
        self.leaves[each.key] = each
        self.hopeless.add(each.key)

    def _take(self, switch: Instance, branch: int | None) -> None:
        if branch is None:
            self._give_up(switch)
        elif branch < 0:
            self.skipped.add(switch.key)
        else:
            self._walk(switch.runs[branch])

    def _repeat(self, loop: Instance) -> None:
        for passing in loop.runs:
            self._walk(passing)
            if holds(loop.spec["repeat"]["until"], passing.variables):
                return
        self._give_up(loop)

    @property
    def calls(self) -> dict[str, Instance]:
        """Those that call somebody, children among them."""
        return {
            key: leaf
            for key, leaf in self.leaves.items()
            if (leaf.is_call or leaf.is_child) and key not in self.hopeless
        }

    def members(self, item: Run) -> set[str]:
        """The leaves in one run of a loop."""
        return {key for key, leaf in self.leaves.items() if any(each.run is item for each in leaf.chain)}

    def needs_failure_of(self, leaf: Instance) -> str | None:
        """The key of the instance that must have failed for this one to run."""
        when = leaf.spec.get("when", "")
        return leaf.run.instances[when.split(".")[1]].key if when.endswith("== 'FAILED'") else None

    def correlation(self, key: str) -> str:
        """That of the event that a leaf waits for; "" where it has none."""
        leaf = self.leaves[key]
        text: str = leaf.spec.get("await_event", {}).get("correlation", "")
        index = str(leaf.run.variables.get("index"))
        return text.replace("${input.order}", self.given["order"]).replace("${index}", index)
