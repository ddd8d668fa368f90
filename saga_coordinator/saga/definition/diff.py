"""Compares two definitions: what changed, and whether the callers who start its sagas can go on unchanged.

It compares the canonical JSON forms, so that a change in a field that this module does not know shows up by itself, as a note.
These changes are breaking: an input schema may refuse an input that the old schema took; the output or a field of it is gone; a
step is gone; an operation calls another participant or method; a compensation is gone. Every other change is a note: new steps,
inputs, timeouts, retries, order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from saga_coordinator.saga.schema.diff import compare_schemas
from saga_coordinator.saga.schema.structure import join
from saga_coordinator.saga.words.change import Change, shown

_CALLED = frozenset({"definition", "method", "participant"})
"""The fields that say what an operation, or a step that runs another saga, calls."""


def compare_definitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The changes from one valid definition to another, both in canonical JSON form (snake case), in the order of the
    fields.
    """
    changes = compare_schemas(before.get("input_schema"), after.get("input_schema"), "input")
    changes += _output(before.get("output"), after.get("output"), "output")
    rest = ("input_schema", "output")
    return changes + list(_compare(_without(before, rest), _without(after, rest), "", is_payload=False))


def _without(source: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if name not in names}


def _output(before: Any, after: Any, path: str) -> list[Change]:
    """Compares the saga's own output. Callers read it, so a field that is gone breaks them."""
    if before == after:
        return []
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            change
            for name in {**before, **after}
            for change in _output(before.get(name), after.get(name), join(path, name))
        ]
    if after is None:
        return [Change(path, f"is gone (was {shown(before)})", is_breaking=True)]
    if before is None:
        return [Change(path, f"is new: {shown(after)}")]
    return [Change(path, f"is {shown(after)}, was {shown(before)}", is_breaking=isinstance(before, Mapping))]


def _compare(before: Any, after: Any, path: str, *, is_payload: bool) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            inside = is_payload or name in ("input", "labels", "show")
            yield from _field(name, before.get(name), after.get(name), join(path, name), is_payload=inside)
    elif not is_payload and _is_named(before) and _is_named(after):
        yield from _named(before, after, path)
    elif (
        not is_payload
        and isinstance(before, list)
        and isinstance(after, list)
        and _is_objects(before + after)
    ):
        yield from _listed(before, after, path)
    else:
        yield Change(path, f"is {shown(after)}, was {shown(before)}")


def _field(name: str, before: Any, after: Any, path: str, *, is_payload: bool) -> Iterator[Change]:
    if before == after:
        return
    if after is None:
        is_missed = (name == "compensation" or name in _CALLED) and not is_payload
        yield Change(path, f"is gone (was {_summary(before)})", is_breaking=is_missed)
    elif before is None:
        # If no method was given, the method was the step's name.
        is_other = name in _CALLED and not is_payload
        yield Change(path, f"is new: {_summary(after)}", is_breaking=is_other)
    elif name in _CALLED and not is_payload:
        yield Change(path, f"is {shown(after)}, was {shown(before)}", is_breaking=True)
    elif name == "name" and not is_payload:
        yield Change(path, f"is {shown(after)}, was {shown(before)}")
    else:
        yield from _compare(before, after, path, is_payload=is_payload)


def _summary(value: Any) -> str:
    """The called participant and method if the value is an operation; else the value itself."""
    if isinstance(value, Mapping) and "participant" in value:
        method = f" {value['method']}" if value.get("method") else ""
        return f"{value['participant']}{method}"
    return shown(value)


def _is_objects(values: list[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _is_named(values: Any) -> bool:
    """Tells whether the value is a list of things with names, such as steps."""
    return isinstance(values, list) and _is_objects(values) and all("name" in value for value in values)


def _named(before: list[Any], after: list[Any], path: str) -> Iterator[Change]:
    old, new = ({each["name"]: each for each in values} for values in (before, after))
    for name in {**old, **new}:
        at = join(path, name)
        if name not in new:
            yield Change(at, "is gone", is_breaking=True)
        elif name not in old:
            yield Change(at, f"is new{_calls(new[name])}")
        else:
            yield from _compare(old[name], new[name], at, is_payload=False)
    kept = [name for name in old if name in new]
    if kept != [name for name in new if name in old]:
        yield Change(path, f"come in another order: {', '.join(new)}")


def _calls(step: Mapping[str, Any]) -> str:
    action = step.get("action")
    return f": calls {_summary(action)}" if isinstance(action, Mapping) else ""


def _listed(before: list[Any], after: list[Any], path: str) -> Iterator[Change]:
    """Compares lists of things without names, such as the cases of a switch, by the things' places."""
    for index, (one, other) in enumerate(zip(before, after, strict=False)):
        yield from _compare(one, other, join(path, index), is_payload=False)
    for index in range(len(before), len(after)):
        yield Change(join(path, index), "is new")
    for index in range(len(after), len(before)):
        yield Change(join(path, index), "is gone", is_breaking=True)
