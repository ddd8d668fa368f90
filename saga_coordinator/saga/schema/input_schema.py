"""The schema of a saga's input. It is compiled when its definition is registered, and checks the input of every saga that
starts.

JSON Schema 2020-12 (https://json-schema.org/draft/2020-12), with these limits, all of them checked at registration: at most
`SCHEMA_BYTES_MAX` bytes as JSON, `$ref` only inside the schema, patterns as RE2 has them. The formats that are checked are
those of `formats`; others are remarks. `keywords` says how the work of one check is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import orjson

from saga_coordinator.saga.schema.prices import PARTS
from saga_coordinator.saga.schema.shape import shape_faults
from saga_coordinator.saga.schema.structure import NAMED, ONE, SEVERAL, join, structure_faults, subschemas
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.json_object import is_finite, text_problem
from saga_coordinator.saga.words.outcome import clip
from saga_coordinator.saga.words.work import (
    INLINE_WORK_MAX,
    INPUT_WORK_MAX,
    TooMuchWork,
    budget,
    spend,
)

SCHEMA_BYTES_MAX = 64 * 1024
_FAULTS_MAX = 100
_SCHEMA_PRICE = 100
_BYTES_PER_UNIT = 2
"""The units of work for checking a schema when it is registered."""
NESTING_MAX = 32
"""The most levels of lists and objects: as many as a payload may have, because an input schema is sent as a payload."""


class InputSchema:
    """A schema that inputs are checked by."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def faults(self, value: Any, path: str = "input") -> list[Fault]:
        """The faults of the value, each with its place (`input.lines[0].sku`): at most 100, and a last fault that says so."""
        try:
            with budget(INPUT_WORK_MAX):
                return self._faults(value, path)
        except TooMuchWork as error:
            return [
                Fault(
                    path,
                    f"takes more than {error.units_max} units of work (of about a microsecond) to check by the definition's "
                    "input_schema; send less at once, or have the schema ask less of each part",
                )
            ]

    def faults_soon(self, value: Any, path: str = "input") -> list[Fault] | None:
        """The faults of the value, if finding them takes no more work than may be done on the event loop; else None."""
        try:
            with budget(INLINE_WORK_MAX):
                return self._faults(value, path)
        except TooMuchWork:
            return None

    def _faults(self, value: Any, path: str) -> list[Fault]:
        from saga_coordinator.saga.schema import keywords  # noqa: PLC0415  # see compile_schema

        try:
            errors = keywords.errors_of(self._validator, value)
        except RecursionError:
            return [Fault(path, "takes the definition's input_schema too many levels deep")]
        found = [
            Fault(clip(keywords.path_of(error.path, path)), clip(error.message))
            for error in errors[: keywords.ERRORS_MAX]
        ]
        found = list(dict.fromkeys(found))
        if len(errors) > keywords.ERRORS_MAX:
            found.append(Fault(path, "has more faults; mend these first"))
        return found


def compile_schema(source: Any, path: str, faults: list[Fault]) -> InputSchema | None:
    """The schema in `source`, at `path` of its definition; None when it is none, with what is wrong added to `faults`."""
    found = _source_faults(source, path)
    if found:
        faults += found
        return None
    # Most definitions have no schema, and importing the library takes 70 ms, which every command would pay.
    from saga_coordinator.saga.schema import keywords  # noqa: PLC0415

    plain = {key: value for key, value in source.items() if key not in ("$id", "$schema")}
    # By these two keywords the library would choose another dialect or another base than were checked above.
    return InputSchema(keywords.InputValidator(_prepared(plain, len(subschemas(plain)))))


def _source_faults(source: Any, path: str) -> list[Fault]:
    """The faults of the schema's source. Each check relies on the checks before it."""
    return (
        _plain_faults(source, path)
        or list(islice(shape_faults(source, path), _FAULTS_MAX))
        or [*_pattern_faults(source, path), *structure_faults(source, path)]
    )


def _plain_faults(source: Any, path: str) -> list[Fault]:
    """The reasons why the schema is no plain JSON of bearable size. Every later check relies on this check."""
    if not isinstance(source, Mapping):
        return [Fault(path, "must be an object: a JSON Schema")]
    if fault := _json_fault(source, path):
        return [fault]
    size = len(orjson.dumps(source))
    if size > SCHEMA_BYTES_MAX:
        return [Fault(path, f"is {size} bytes as JSON; {SCHEMA_BYTES_MAX} is the limit")]
    spend(_SCHEMA_PRICE + size // _BYTES_PER_UNIT)
    return []


def _json_fault(source: Any, path: str) -> Fault | None:
    waiting: list[tuple[str, Any, int]] = [(path, source, 1)]
    while waiting:
        at, node, level = waiting.pop()
        if isinstance(node, dict | list) and level > NESTING_MAX:
            return Fault(path, f"is nested deeper than {NESTING_MAX} levels; move inner schemas to $defs")
        if isinstance(node, dict):
            for key, value in node.items():
                if not isinstance(key, str):
                    return Fault(at, f"has a key that is not a string ({str(key)[:80]}); put it in quotes")
                if problem := text_problem(key):
                    return Fault(at, f"has a key that {problem}")
                waiting.append((join(at, key), value, level + 1))
        elif isinstance(node, list):
            waiting += [(join(at, index), value, level + 1) for index, value in enumerate(node)]
        elif problem := _scalar_problem(node):
            return Fault(at, problem)
    return None


def _scalar_problem(value: Any) -> str | None:
    if isinstance(value, str):
        return text_problem(value)
    if isinstance(value, int | float):
        is_exact = is_finite(value) and (not isinstance(value, int) or abs(value) <= 2**53)
        return None if is_exact else "must be a number that a double holds exactly"
    if value is None:
        return None
    return f"has a value that JSON does not know ({type(value).__name__}); put it in quotes"


def _pattern_faults(schema: Any, path: str) -> list[Fault]:
    from saga_coordinator.saga.schema.values import pattern_problem  # noqa: PLC0415  # see compile_schema

    faults = []
    for one in subschemas(schema, path).values():
        if not isinstance(one.schema, Mapping):
            continue
        places = [(join(one.path, "pattern"), one.schema["pattern"])] if "pattern" in one.schema else []
        at = join(one.path, "patternProperties")
        places += [(join(at, source), source) for source in one.schema.get("patternProperties", ())]
        faults += [Fault(place, problem) for place, source in places if (problem := pattern_problem(source))]
    return faults


def _prepared(schema: Any, parts: int) -> Any:
    """The same schema with `{"not": {}}` in place of `false`. Where the number of all `parts` decides the work, it is written
    in.
    """
    if schema is False:
        return {"not": {}}
    if not isinstance(schema, dict):
        return schema
    plain = dict(schema)
    for keyword, value in schema.items():
        if keyword in ONE:
            plain[keyword] = _prepared(value, parts)
        elif keyword in SEVERAL and isinstance(value, list):
            plain[keyword] = [_prepared(inner, parts) for inner in value]
        elif keyword in NAMED and isinstance(value, dict):
            plain[keyword] = {name: _prepared(inner, parts) for name, inner in value.items()}
    if "unevaluatedItems" in plain or "unevaluatedProperties" in plain:
        plain[PARTS] = parts
    return plain
