"""Makes a value that fits a JSON Schema, as far as possible without a search: an example of a saga's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga_coordinator.rehearsal.pattern import text_matching
from saga_coordinator.saga.expressions.reference import has

NESTING_MAX = 12
"""A schema may refer to itself; deeper than this, whatever it asks for is left out."""

_FORMATS = {
    "date-time": "2026-01-01T09:00:00Z",
    "date": "2026-01-01",
    "time": "09:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.org",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "uri": "https://example.org/",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def sketch_of(schema: Any) -> Any:
    """A value for the schema: its own examples and defaults where it has them, else the plainest that its keywords allow.

    Keywords that need a search (`not`, `if`, an involved `pattern`) are passed over, so the value should be checked.
    """
    return _sketch(schema, schema, 0, "value")


def _sketch(schema: Any, whole: Any, depth: int, name: str) -> Any:
    if not isinstance(schema, Mapping) or depth > NESTING_MAX:
        return None
    schema = _merged(schema, whole)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind or _implied(schema):
        case "object":
            return _object(schema, whole, depth)
        case "array":
            count = max(int(schema.get("minItems", 0)), min(2, int(schema.get("maxItems", 2))))
            first = schema.get("prefixItems", ())
            items = [*first, *[schema.get("items", {})] * max(0, count - len(first))]
            return [_sketch(item, whole, depth + 1, f"item {n}") for n, item in enumerate(items, start=1)]
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "string":
            return _text(schema, name)
        case _:
            return None


def _object(schema: Mapping[str, Any], whole: Any, depth: int) -> dict[str, Any]:
    """An object with all properties. Below a certain depth it has only the required properties."""
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    wanted = properties if depth < NESTING_MAX // 2 else [name for name in properties if name in required]
    found = {name: _sketch(properties[name], whole, depth + 1, name) for name in wanted}
    return {**found, **{name: name for name in required if name not in found}}


def _merged(schema: Mapping[str, Any], whole: Any) -> dict[str, Any]:
    """The schema with what it refers to, all of `allOf` and the first alternative of `anyOf` and `oneOf`."""
    merged = dict(schema)
    for _ in range(NESTING_MAX):
        more = [_referred(merged.pop("$ref"), whole)] if "$ref" in merged else []
        more += merged.pop("allOf", ())
        more += [merged.pop(keyword)[0] for keyword in ("anyOf", "oneOf") if merged.get(keyword)]
        if not more:
            break
        for other in more:
            merged = _joined(merged, other) if isinstance(other, Mapping) else merged
    return merged


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**other, **one}
    if "properties" in one and "properties" in other:
        joined["properties"] = {**other["properties"], **one["properties"]}
    if "required" in one and "required" in other:
        joined["required"] = [*one["required"], *other["required"]]
    return joined


def _referred(reference: str, whole: Any) -> Any:
    found = whole
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if not has(found, name):
            return {}
        found = found[name]
    return found


def _implied(schema: Mapping[str, Any]) -> str | None:
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema:
        return "number"
    return "string" if "minLength" in schema or "format" in schema or "pattern" in schema else None


def _number(schema: Mapping[str, Any]) -> float:
    step = schema.get("multipleOf", 1)
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    value: float = 100 if low is None else max(low, 1)
    if high is not None:
        value = min(value, high)
    below: float = value - value % step
    return below if low is None or below >= low else below + step


def _text(schema: Mapping[str, Any], name: str) -> str:
    if "pattern" in schema and (matching := text_matching(schema["pattern"])) is not None:
        return matching
    text = _FORMATS.get(schema.get("format", ""), name)
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text
