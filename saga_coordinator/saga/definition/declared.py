"""Steps that participants declare, and definitions that use them: `use: inventory.reserve`.

A declaration is the canonical JSON form of `saga.v1.DeclaredStep`. A definition is expanded once, when it is registered. The
expanded definition needs the declarations no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.schema.diff import compare_schemas
from saga_coordinator.saga.schema.input_schema import compile_schema
from saga_coordinator.saga.words.errors import Fault, InvalidDefinition
from saga_coordinator.saga.words.limits import DEFAULT_LIMITS, Limits
from saga_coordinator.saga.words.work import DEFINITION_WORK_MAX, TooMuchWork, budget, spend

_SCHEMAS = ("input_schema", "output_schema")
_FLAGS = ("read_only", "irreversible")
_USE_PRICE = 100
"""The units of work for filling in one step, without its schema."""

Declarations = Mapping[str, Mapping[str, Any]]
"""Declared steps by the names that definitions use: `inventory.reserve`."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The steps that a participant offers: their canonical JSON forms by name, and the version of the participant's program."""

    version: str = ""
    steps: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def qualified(participant: str, name: str) -> str:
    """The name by which a definition's `use` refers to a declared step."""
    return f"{participant}.{name}"


def declaration_faults(participant: str, steps: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The faults of the declarations, with paths that begin at `steps`."""
    faults: list[Fault] = []
    try:
        with budget(DEFINITION_WORK_MAX):
            _check_declarations(participant, steps, faults)
    except TooMuchWork as error:
        faults.append(Fault("steps", f"{error} to check: there are too many, or their schemas are too large"))
    return faults


def _check_declarations(participant: str, steps: Iterable[Mapping[str, Any]], faults: list[Fault]) -> None:
    names: set[str] = set()
    for index, declared in enumerate(steps):
        path = f"steps[{index}]"
        name = declared.get("name", "")
        if name and name in names:
            faults.append(Fault(f"{path}.name", f"`{name}` is the name of an earlier step too"))
        names.add(name)
        if "input" in declared.get("action", {}):
            faults.append(Fault(f"{path}.action.input", "is given by definitions; leave it out"))
        faults += _as_definition_faults(participant, declared, path)
        for schema in _SCHEMAS:
            if schema in declared:
                compile_schema(declared[schema], f"{path}.{schema}", faults)


def _as_definition_faults(participant: str, declared: Mapping[str, Any], path: str) -> list[Fault]:
    """Finds the faults of a declared step by parsing a definition that has only this step."""
    faults: list[Fault] = []
    step = {field: value for field, value in declared.items() if field not in ("description", *_SCHEMAS)}
    for kind in ("action", "compensation"):
        if kind in step:
            if step[kind].get("participant", participant) != participant:
                faults.append(Fault(f"{path}.{kind}.participant", f"is `{participant}`; leave it out"))
            step[kind] = {**step[kind], "participant": participant}
    if not any(step.get(excuse) for excuse in ("compensation", *_FLAGS)):
        step["irreversible"] = True  # the definition may have it as its pivot
    try:
        parse_definition({"name": "declared", "steps": [step]})
    except InvalidDefinition as error:
        faults += [
            Fault(fault.path.replace("steps[0]", path, 1), fault.description) for fault in error.faults
        ]
    return faults


def used_steps(spec: Any) -> frozenset[str]:
    """The declared steps that a definition uses, including its blocks; `spec` need not be valid."""
    return frozenset(step["use"] for _, step in steps_within(spec, "") if _is_use(step.get("use")))


def expanded(
    spec: Mapping[str, Any], declarations: Declarations, limits: Limits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """The definition, in its canonical JSON form, with every `use` replaced by what was declared.

    Raises:
        InvalidDefinition: it uses an undeclared step, or a step in a way that does not fit. All other faults are listed, too.
    """
    copied: dict[str, Any] = _copied(spec)
    faults: list[Fault] = []
    try:
        with budget(limits.work):
            _expand_all(copied, declarations, faults)
    except TooMuchWork as error:
        faults.append(Fault("steps", f"{error} to fill in from what participants have declared; use fewer"))
    if faults:
        raise InvalidDefinition([*faults, *_other_faults(copied, limits, {fault.path for fault in faults})])
    return copied


def _expand_all(copied: dict[str, Any], declarations: Declarations, faults: list[Fault]) -> None:
    for path, step in steps_within(copied, ""):
        use = step.get("use")
        if not _is_use(use):
            continue
        spend(_USE_PRICE)
        declared = declarations.get(use)
        if declared is None:
            participant = use.rpartition(".")[0]
            others = sorted(other for other in declarations if other.rpartition(".")[0] == participant)
            there = f"; it has: {', '.join(others)[:800]}" if others else ""
            faults.append(
                Fault(
                    f"{path}.use",
                    f"participant `{participant[:80]}` has declared no step `{use[:200]}`{there}",
                )
            )
        else:
            _expand(step, path, declared, faults)


def _other_faults(spec: Mapping[str, Any], limits: Limits, told: set[str]) -> list[Fault]:
    try:
        parse_definition(spec, limits)
    except InvalidDefinition as error:
        return [fault for fault in error.faults if fault.path not in told]
    return []


def _is_use(use: object) -> TypeGuard[str]:
    return isinstance(use, str) and bool(use)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def steps_within(holder: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each step of a definition or a block with its path, and then the steps in the step's own blocks. `holder` need not
    be valid.
    """
    steps = holder.get("steps") if isinstance(holder, Mapping) else None
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, dict):
            continue
        at = f"{path}steps[{index}]"
        yield at, step
        for kind in ("for_each", "repeat"):
            yield from steps_within(step.get(kind), f"{at}.{kind}.")
        switch = step.get("switch")
        if isinstance(switch, Mapping):
            cases = switch.get("cases")
            for number, case in enumerate(cases if isinstance(cases, list) else ()):
                yield from steps_within(case, f"{at}.switch.cases[{number}].")
            yield from steps_within(switch.get("otherwise"), f"{at}.switch.otherwise.")


def _expand(step: dict[str, Any], path: str, declared: Mapping[str, Any], faults: list[Fault]) -> None:
    use = step["use"]
    participant = use.rpartition(".")[0]
    action = _operation(step, "action", path, declared, participant, faults)
    faults += _input_faults(action, f"{path}.action.input", use, declared.get("input_schema"))
    step["action"] = action
    is_said = any(step.get(excuse) for excuse in ("pivot", *_FLAGS))
    if "compensation" in declared and ("compensation" in step or not is_said):
        step["compensation"] = _operation(step, "compensation", path, declared, participant, faults)
    elif not is_said and "compensation" not in step:
        step.update({flag: True for flag in _FLAGS if declared.get(flag)})


def _operation(
    step: Mapping[str, Any],
    kind: str,
    path: str,
    declared: Mapping[str, Any],
    participant: str,
    faults: list[Fault],
) -> dict[str, Any]:
    """The operation: its declaration, with the fields that the step gives in place of the declared ones. Only the declaration
    says which participant and method are called.
    """
    given = step.get(kind) or {}
    if not isinstance(given, dict):
        faults.append(Fault(f"{path}.{kind}", "must be an object"))
        return {}
    called = {"participant": participant, "method": declared[kind].get("method") or declared["name"]}
    faults.extend(
        Fault(
            f"{path}.{kind}.{name}", f"is `{given[name]}`; `{step['use']}` declares `{value}`: leave it out"
        )
        for name, value in called.items()
        if given.get(name, value) != value
    )
    return {**declared[kind], **given, **called}


def _input_faults(action: Mapping[str, Any], path: str, use: str, schema: Any) -> list[Fault]:
    """The faults of an input that can be found before the values of its references are known."""
    if schema is None or "input" not in action:
        return []
    given = action["input"]
    if not _has_reference(given):
        compiled = compile_schema(schema, "input_schema", [])
        return compiled.faults(given, path) if compiled else []
    if not isinstance(given, Mapping):
        return []
    known = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in given]
    is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    unknown = [name for name in given if name not in known] if is_closed else []
    return [Fault(path, f"lacks `{name}`, which `{use}` requires") for name in missing] + [
        Fault(path, f"has `{name}`, which `{use}` does not know; known: {', '.join(known)[:800]}")
        for name in unknown
    ]


def _has_reference(payload: Any) -> bool:
    if isinstance(payload, Mapping):
        return any(map(_has_reference, payload.values()))
    if isinstance(payload, list):
        return any(map(_has_reference, payload))
    return isinstance(payload, str) and "${" in payload


def breaking_changes(before: Declarations, after: Declarations) -> dict[str, str]:
    """The breaking changes of each step that was declared before: what a definition that uses the step would miss. Steps that
    lose nothing are left out.
    """
    found: dict[str, str] = {}
    for use, old in before.items():
        new = after.get(use)
        if new is None:
            found[use] = "is gone"
        elif "compensation" in old and "compensation" not in new:
            found[use] = "has no compensation any more"
        else:
            changes = compare_schemas(old.get("input_schema"), new.get("input_schema"), "input")
            narrower = [f"{change.path} {change.description}" for change in changes if change.is_breaking]
            if narrower:
                found[use] = f"takes less: {'; '.join(narrower)[:400]}"
    return found
