"""The structure of a JSON Schema: its subschemas, the targets of its references, and whether every check by it ends.

It is JSON Schema 2020-12 without everything that reaches beyond the schema itself: other documents, identities of parts,
dynamic references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from saga_coordinator.saga.words.errors import Fault

DIALECT = "https://json-schema.org/draft/2020-12/schema"

ONE = frozenset(
    {
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords whose value is a schema."""
SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""
NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose value is an object of schemas."""

_IN_PLACE = ("allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then")
"""Keywords whose schemas are applied to the same value, so that only a finite number of them may follow each other."""
_REFUSED = {
    "$dynamicAnchor": "is not supported; use $anchor",
    "$dynamicRef": "is not supported; use $ref",
}
_ONLY_AT_THE_TOP = ("$id", "$schema", "$vocabulary")


@dataclass(frozen=True, slots=True)
class Subschema:
    """A schema inside a schema. `path` is for people (`properties.sku`), and its pointer is for `$ref`."""

    path: str
    schema: Any


def join(path: str, segment: str | int) -> str:
    """The path of what is inside `path`: `lines`, `lines[0]`, `lines[0].sku`, `lines[0]['odd key']`."""
    if isinstance(segment, int):
        return f"{path}[{segment}]"
    if not segment.replace("-", "_").replace("$", "_").isidentifier():
        return f"{path}[{segment[:80]!r}]"
    return f"{path}.{segment[:80]}" if path else segment[:80]


def subschemas(schema: Any, path: str = "") -> dict[str, Subschema]:
    """The schema and all schemas inside it, by JSON pointer (RFC 6901). The schema itself has the empty pointer."""
    found: dict[str, Subschema] = {}
    waiting: list[tuple[str, str, Any]] = [("", path, schema)]
    while waiting:
        pointer, at, node = waiting.pop()
        found[pointer] = Subschema(at, node)
        if isinstance(node, Mapping):
            waiting += [(pointer + below, _path(at, steps), inner) for below, steps, inner in _children(node)]
    return found


def _path(path: str, steps: tuple[str | int, ...]) -> str:
    for step in steps:
        path = join(path, step)
    return path


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str | int, ...], Any]]:
    for keyword, value in node.items():
        if keyword in ONE:
            yield f"/{keyword}", (keyword,), value
        elif keyword in SEVERAL and isinstance(value, list):
            for index, inner in enumerate(value):
                yield f"/{keyword}/{index}", (keyword, index), inner
        elif keyword in NAMED and isinstance(value, Mapping):
            for name, inner in value.items():
                escaped = str(name).replace("~", "~0").replace("/", "~1")
                yield f"/{keyword}/{escaped}", (keyword, str(name)), inner


class References:
    """The targets of the references inside a schema."""

    def __init__(self, known: Mapping[str, Subschema]) -> None:
        self._known = known
        self._anchors = {
            one.schema["$anchor"]: pointer
            for pointer, one in known.items()
            if isinstance(one.schema, Mapping) and isinstance(one.schema.get("$anchor"), str)
        }

    def pointer(self, reference: Any) -> str | None:
        """The pointer of the subschema that `$ref` names; None when it names none of this schema's."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        target = unquote(reference[1:])
        if target and not target.startswith("/"):
            return self._anchors.get(target)
        return target if target in self._known else None

    def resolve(self, schema: Any) -> Any:
        """The schema that this schema stands for: if it is only a `$ref`, the target; else the schema itself. Ends even on a
        ring of references.
        """
        passed: set[str] = set()
        while isinstance(schema, Mapping) and set(schema) == {"$ref"}:
            pointer = self.pointer(schema["$ref"])
            if pointer is None or pointer in passed:
                break
            passed.add(pointer)
            schema = self._known[pointer].schema
        return schema


def structure_faults(schema: Any, path: str) -> list[Fault]:
    """The faults that keep the schema, which stands at `path` of its definition, from standing alone or from being checked in
    finite time.
    """
    known = subschemas(schema, path)
    references = References(known)
    faults: list[Fault] = []
    follows: dict[str, list[str]] = {}
    has_patterns = has_unevaluated = False
    for pointer, one in known.items():
        if not isinstance(one.schema, Mapping):
            continue
        faults += _keyword_faults(one, references, is_top=not pointer)
        follows[pointer] = _in_place(pointer, one.schema, known, references)
        has_patterns |= "patternProperties" in one.schema
        has_unevaluated |= "unevaluatedProperties" in one.schema
    if has_patterns and has_unevaluated:
        faults.append(
            Fault(
                path,
                "has patternProperties and unevaluatedProperties; use additionalProperties beside patterns",
            )
        )
    if ring := _ring(follows):
        names = " to ".join(known[pointer].path or "#" for pointer in ring)
        faults.append(
            Fault(
                known[ring[0]].path,
                f"leads back to itself without going into the value ({names}): checking would never end",
            )
        )
    return faults


def _keyword_faults(one: Subschema, references: References, *, is_top: bool) -> Iterator[Fault]:
    for keyword, description in _REFUSED.items():
        if keyword in one.schema:
            yield Fault(join(one.path, keyword), description)
    if is_top:
        dialect = one.schema.get("$schema", DIALECT)
        if str(dialect).removesuffix("#") != DIALECT:
            yield Fault(join(one.path, "$schema"), f"must be {DIALECT}, or absent")
    else:
        for keyword in _ONLY_AT_THE_TOP:
            if keyword in one.schema:
                yield Fault(join(one.path, keyword), "belongs at the top of the schema; remove it here")
    if "$ref" in one.schema and references.pointer(one.schema["$ref"]) is None:
        said = str(one.schema["$ref"])[:80]
        if said.startswith("#"):
            yield Fault(join(one.path, "$ref"), f"`{said}` leads to nothing: no schema is there")
        else:
            yield Fault(
                join(one.path, "$ref"),
                f"`{said}` leads out of the schema; copy what it means into $defs, and refer to `#/$defs/NAME`",
            )


def _in_place(
    pointer: str, schema: Mapping[str, Any], known: Mapping[str, Subschema], references: References
) -> list[str]:
    """The subschemas that are applied to the same value."""
    found = [
        pointer + below
        for below, steps, _ in _children({key: schema[key] for key in _IN_PLACE if key in schema})
        if pointer + below in known
    ]
    target = references.pointer(schema["$ref"]) if "$ref" in schema else None
    return found if target is None else [*found, target]


def _ring(follows: Mapping[str, list[str]]) -> list[str] | None:
    """The nodes along a cycle, with the first node repeated at the end; None if there is no cycle."""
    ended: set[str] = set()
    for start in follows:
        trail: list[str] = []
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            node, is_left = waiting.pop()
            if is_left:
                ended.add(trail.pop())
            elif node in trail:
                return [*trail[trail.index(node) :], node]
            elif node not in ended:
                trail.append(node)
                waiting.append((node, True))
                waiting += [(other, False) for other in follows.get(node, ())]
    return None
