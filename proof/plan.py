"""What a definition asks for, worked out from its raw form and a saga's input, without the program's own walk of instances.

Every instance that there could be is there: each item's, each pass's up to the last allowed, each branch's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from proof.conditions import Variables, holds

KINDS = ("action", "saga", "delay", "until", "await_event", "approval", "switch", "for_each", "repeat")


@dataclass(eq=False, slots=True)
class Run:
    """One run of a block: of the branch, item or pass `index` of `owner`; None for the saga's own steps."""

    owner: Instance | None
    index: int
    variables: Variables
    instances: dict[str, Instance] = field(default_factory=dict)


@dataclass(eq=False)
class Instance:
    """A step where it runs. `before` are the names of all that come before it in the same run."""

    key: str
    spec: Mapping[str, Any]
    run: Run
    before: frozenset[str]
    is_late: bool
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @cached_property
    def kind(self) -> str:
        return next(kind for kind in KINDS if kind in self.spec)

    @property
    def is_call(self) -> bool:
        return self.kind == "action"

    @property
    def is_child(self) -> bool:
        return self.kind == "saga"

    @property
    def has_effect(self) -> bool:
        """Whether what it does has to be undone or listed."""
        return self.kind in ("action", "saga") and not self.spec.get("read_only")

    @property
    def has_undo(self) -> bool:
        if self.is_call:
            return "compensation" in self.spec
        excuses = ("pivot", "read_only", "irreversible")
        return self.is_child and not self.is_late and not any(self.spec.get(excuse) for excuse in excuses)

    @property
    def on_failure(self) -> str:
        said = self.spec["action"].get("on_failure") if self.is_call else self.spec.get("on_failure")
        return said or ("pause" if self.spec.get("recovery") == "forward" else "compensate")

    @property
    def is_undo_optional(self) -> bool:
        return self.is_call and self.spec.get("compensation", {}).get("on_failure") == "continue"

    @cached_property
    def chain(self) -> tuple[Instance, ...]:
        """The instances in whose blocks it lies, from the outermost, and itself."""
        return (self,) if self.run.owner is None else (*self.run.owner.chain, self)

    def operation(self, kind: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.spec[kind]
        return found


class Plan:
    """All instances that a saga of that definition with that input could have."""

    def __init__(self, spec: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.spec = spec
        self.given = given
        self.instances: dict[str, Instance] = {}
        self._later: dict[str, tuple[Instance, ...]] = {}
        self.pivot = next((step["name"] for step in spec["steps"] if step.get("pivot")), None)
        self.root = self._run(spec["steps"], None, 0, "", {"input": given}, is_late=False)

    def _run(
        self,
        steps: list[Mapping[str, Any]],
        owner: Instance | None,
        index: int,
        prefix: str,
        variables: Variables,
        *,
        is_late: bool,
    ) -> Run:
        run = Run(owner, index, variables)
        before = _before(steps)
        for step in steps:
            name = step["name"]
            is_after_pivot = is_late or (
                owner is None and self.pivot is not None and self.pivot in before[name]
            )
            instance = Instance(prefix + name, step, run, before[name], is_after_pivot)
            run.instances[name] = instance
            self.instances[instance.key] = instance
            for number, (inner, inner_prefix, more) in enumerate(self._inside(instance, prefix)):
                inner_run = self._run(
                    inner, instance, number, inner_prefix, {**variables, **more}, is_late=is_after_pivot
                )
                instance.runs.append(inner_run)
        return run

    def _inside(
        self, instance: Instance, prefix: str
    ) -> Iterator[tuple[list[Mapping[str, Any]], str, dict[str, Any]]]:
        spec, key = instance.spec, instance.key
        match instance.kind:
            case "switch":
                for case in cases_of(spec):
                    yield case["steps"], prefix, {}
            case "for_each":
                for index, item in enumerate(self.given["items"]):
                    yield spec["for_each"]["steps"], f"{key}[{index}].", {"item": item, "index": index}
            case "repeat":
                for index in range(spec["repeat"]["max_passes"]):
                    yield spec["repeat"]["steps"], f"{key}[{index}].", {"number": index + 1}
            case _:
                pass

    @cached_property
    def operations(self) -> tuple[Instance, ...]:
        """Those that call a participant or run a saga."""
        return tuple(each for each in self.instances.values() if each.is_call or each.is_child)

    @cached_property
    def calls(self) -> tuple[Instance, ...]:
        return tuple(each for each in self.instances.values() if each.is_call)

    def later(self, key: str) -> tuple[Instance, ...]:
        """The operations that come after that one, and so are undone before it."""
        if key not in self._later:
            earlier = self.instances[key]
            self._later[key] = tuple(each for each in self.operations if comes_after(each, earlier))
        return self._later[key]

    def visible(self, key: str, name: str) -> Instance:
        """The instance that expressions of the instance `key` mean by that step's name."""
        for around in reversed(self.instances[key].chain):
            if name in around.run.instances:
                return around.run.instances[name]
        raise AssertionError(f"{key} cannot see {name}")


def cases_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The branches of a switch; the one without a condition is last."""
    switch = spec["switch"]
    return [*switch["cases"], *([switch["otherwise"]] if "otherwise" in switch else [])]


def _before(steps: list[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    names = [step["name"] for step in steps]
    after = {step["name"]: step.get("after", []) for step in steps}
    if not any(after.values()):
        return {name: frozenset(names[:index]) for index, name in enumerate(names)}
    closed: dict[str, frozenset[str]] = {}
    for name in names:  # random definitions name earlier steps only
        closed[name] = frozenset(after[name]).union(*(closed[other] for other in after[name]))
    return closed


def branch_of(instance: Instance) -> int | None:
    """The branch that a switch takes; -1 when none holds, None when that cannot be computed."""
    for index, case in enumerate(cases_of(instance.spec)):
        meant = holds(case.get("when"), instance.run.variables)
        if meant is not False:
            return index if meant else None
    return -1


def comes_after(later: Instance, earlier: Instance) -> bool:
    """Whether it starts only when the other is over: by the first place where their ways part."""
    for one, other in zip(later.chain, earlier.chain, strict=False):
        if one.run is not other.run:
            assert one.run.owner is not None
            return _runs_in_turn(one.run.owner) and one.run.index > other.run.index
        if one is not other:
            return other.name in one.before
    return False


def _runs_in_turn(loop: Instance) -> bool:
    """Whether the loop's passes or items follow each other, rather than run at once."""
    if loop.kind == "for_each":
        return bool(loop.spec["for_each"].get("max_parallel") == 1)
    return loop.kind == "repeat"
