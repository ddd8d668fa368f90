"""Compares a new input schema with the old schema: does the new schema accept every input that the old schema accepted?

The comparison goes keyword by keyword and errs on the safe side: a change that cannot be judged, such as a changed pattern,
counts as breaking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from saga_coordinator.saga.schema.structure import References, join, subschemas
from saga_coordinator.saga.words.change import Change, shown

_AT_LEAST = frozenset(
    {"exclusiveMinimum", "minContains", "minItems", "minLength", "minProperties", "minimum"}
)
_AT_MOST = frozenset({"exclusiveMaximum", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum"})
_REMARKS = frozenset(
    {
        "$anchor",
        "$comment",
        "$id",
        "$schema",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "default",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
"""Keywords that refuse nothing."""
_ELSEWHERE = frozenset({"$defs", "definitions", "properties", "required"})
"""Compared on their own, or where something refers to them."""
_TYPES = frozenset({"array", "boolean", "null", "number", "object", "string"})


def compare_schemas(before: Any, after: Any, path: str) -> list[Change]:
    """The changes between two valid input schemas. None stands for no schema, which accepts every input."""
    if before is None and after is None:
        return []
    if before is None:
        return [Change(path, "is new: inputs that do not fit it are refused now", is_breaking=True)]
    if after is None:
        return [Change(path, "is gone: any input is accepted now")]
    return list(_Comparison(before, after).changes(before, after, path))


class _Comparison:
    """Compares two schemas and follows their references, each ring of references only once."""

    def __init__(self, before: Any, after: Any) -> None:
        self._before = References(subschemas(before))
        self._after = References(subschemas(after))
        self._open: set[tuple[str, str]] = set()
        self._same: set[tuple[str, str]] = set()

    def changes(self, before: Any, after: Any, path: str) -> Iterator[Change]:
        before, after = self._before.resolve(before), self._after.resolve(after)
        pair = (_canonical(before), _canonical(after))
        if pair in self._open or pair in self._same:
            return
        if pair[0] == pair[1]:  # only what they refer to can differ, and that is told once
            self._same.add(pair)
        self._open.add(pair)
        try:
            yield from self._compare(before, after, path)
        finally:
            self._open.discard(pair)

    def _compare(self, before: Any, after: Any, path: str) -> Iterator[Change]:
        if isinstance(before, bool) or isinstance(after, bool):
            yield from _compare_with_bool(before, after, path)
            return
        yield from self._types(before, after, path)
        yield from self._required(before, after, path)
        yield from self._properties(before, after, path)
        for keyword in sorted((before.keys() | after.keys()) - _ELSEWHERE - _REMARKS - {"type"}):
            yield from self._keyword(keyword, before.get(keyword), after.get(keyword), path)
        for keyword in sorted(_REMARKS & (before.keys() | after.keys())):
            if _differ(before.get(keyword), after.get(keyword)):
                yield Change(path, f"{keyword} changed, which refuses nothing")

    def _types(self, before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Change]:
        old, new = _types_of(before), _types_of(after)
        if lost := sorted(
            name for name in old if name not in new and not (name == "integer" and "number" in new)
        ):
            yield Change(path, f"may be no {' and no '.join(lost)} any more", is_breaking=True)
        if won := sorted(
            name for name in new if name not in old and not (name == "integer" and "number" in old)
        ):
            yield Change(path, f"may be {' or '.join(won)} now, too")

    def _required(self, before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Change]:
        old, new = before.get("required", []), after.get("required", [])
        for name in new:
            if name not in old:
                yield Change(join(path, name), "is required now", is_breaking=True)
        for name in old:
            if name not in new:
                yield Change(join(path, name), "is not required any more")

    def _properties(self, before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[Change]:
        old, new = before.get("properties", {}), after.get("properties", {})
        for name in {**old, **new}:
            at = join(path, name)
            if name in old and name in new:
                yield from self.changes(old[name], new[name], at)
            elif name in new:
                yield Change(at, "is new")
                if isinstance(others := before.get("additionalProperties"), dict):
                    yield from self.changes(others, new[name], at)
            elif (others := after.get("additionalProperties", True)) is False:
                yield Change(at, "is gone, and refused now", is_breaking=True)
            elif others is True:
                yield Change(at, "is gone, and not checked any more")
            else:
                yield Change(at, "is gone, and checked like any other field")
                yield from self.changes(old[name], others, at)

    def _keyword(self, keyword: str, old: Any, new: Any, path: str) -> Iterator[Change]:
        if not _differ(old, new):
            # The texts are the same, but the schemas that they refer to may differ.
            yield from self._inside(keyword, old, new, path)
            return
        if keyword == "additionalProperties":
            yield from self._additional(old, new, path)
        elif keyword in ("items", "allOf", "prefixItems", "contains", "propertyNames", "anyOf", "oneOf"):
            yield from self._applied(keyword, old, new, path)
        elif keyword == "enum":
            yield from _enum(old, new, path)
        elif keyword in _AT_LEAST or keyword in _AT_MOST:
            yield _limit(keyword, old, new, path)
        elif new is None or (keyword == "uniqueItems" and not new):
            yield Change(path, f"{keyword} is gone (was {shown(old)})")
        elif keyword in ("$ref", "else", "if", "not", "then") or old is None:
            yield Change(
                path, f"{keyword} is {'new' if old is None else 'different'}: {shown(new)}", is_breaking=True
            )
        else:
            yield Change(path, f"{keyword} is {shown(new)}, was {shown(old)}", is_breaking=True)

    def _inside(self, keyword: str, old: Any, new: Any, path: str) -> Iterator[Change]:
        if keyword in ("items", "additionalProperties", "propertyNames", "contains") and isinstance(
            old, dict
        ):
            yield from self.changes(old, new, path + ("[]" if keyword == "items" else f".{keyword}"))
        elif keyword == "$ref":
            yield from self.changes({keyword: old}, {keyword: new}, path)
        elif keyword in ("else", "if", "not", "then", "unevaluatedItems", "unevaluatedProperties"):
            if any(True for _ in self.changes(old, new, path)):
                yield Change(path, f"what {keyword} refers to is different", is_breaking=True)
        elif keyword in ("dependentSchemas", "patternProperties"):
            for name in old:
                yield from self.changes(old[name], new[name], join(join(path, keyword), name))
        elif keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from self.changes(one, other, join(join(path, keyword), index))

    def _additional(self, old: Any, new: Any, path: str) -> Iterator[Change]:
        if new is False or new == {"not": {}}:
            yield Change(path, "fields that the schema does not name are refused now", is_breaking=True)
        elif old is False:
            yield Change(path, "fields that the schema does not name are accepted now")
        else:
            yield from self.changes(_schema(old), _schema(new), f"{path}.*" if path else "*")

    def _applied(self, keyword: str, old: Any, new: Any, path: str) -> Iterator[Change]:
        if keyword == "items":
            yield from self.changes(_schema(old), _schema(new), f"{path}[]")
        elif keyword in ("contains", "propertyNames"):
            if old is None or new is None:
                yield Change(
                    path, f"{keyword} is {'new' if old is None else 'gone'}", is_breaking=old is None
                )
            else:
                yield from self.changes(old, new, join(path, keyword))
        elif old is not None and new is not None and len(old) == len(new):
            for index, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from self.changes(one, other, join(join(path, keyword), index))
        else:
            yield from _alternatives(keyword, old or [], new or [], path)


def _alternatives(keyword: str, old: list[Any], new: list[Any], path: str) -> Iterator[Change]:
    kept = {_canonical(each) for each in old} & {_canonical(each) for each in new}
    lost, won = len(old) - len(kept), len(new) - len(kept)
    does_narrow = {
        "allOf": won > 0,
        "anyOf": not old or (lost > 0 and bool(new)),
        "oneOf": bool(new),
        "prefixItems": True,
    }[keyword]
    yield Change(path, f"{keyword} has {len(new)} schemas, had {len(old)}", is_breaking=does_narrow)


def _enum(old: Any, new: Any, path: str) -> Iterator[Change]:
    if new is None:
        yield Change(path, "may be any value now")
    elif old is None:
        yield Change(path, f"must be one of {shown(new)} now", is_breaking=True)
    else:
        known, present = {_canonical(each) for each in old}, {_canonical(each) for each in new}
        if lost := [each for each in old if _canonical(each) not in present]:
            yield Change(path, f"may not be {shown(lost)} any more", is_breaking=True)
        if won := [each for each in new if _canonical(each) not in known]:
            yield Change(path, f"may be {shown(won)} now, too")


def _limit(keyword: str, old: Any, new: Any, path: str) -> Change:
    if new is None:
        # Without this keyword, one item has to fit.
        is_narrower = keyword == "minContains" and old == 0
        return Change(path, f"{keyword} is gone (was {shown(old)})", is_breaking=is_narrower)
    if old is None:
        return Change(path, f"{keyword} is new: {shown(new)}", is_breaking=True)
    is_narrower = new > old if keyword in _AT_LEAST else new < old
    return Change(path, f"{keyword} is {shown(new)}, was {shown(old)}", is_breaking=is_narrower)


def _compare_with_bool(before: Any, after: Any, path: str) -> Iterator[Change]:
    if _canonical(before) == _canonical(after) or (before in (True, {}) and after in (True, {})):
        return
    if after in (True, {}):
        yield Change(path, "may be anything now")
    elif before is False:
        yield Change(path, "is allowed now")
    elif after is False:
        yield Change(path, "is refused now", is_breaking=True)
    else:
        yield Change(path, "must fit a schema now, and could be anything", is_breaking=True)


def _schema(schema: Any) -> Any:
    """The schema as an object: `true` becomes the empty schema, so that it can be compared keyword by keyword."""
    return {} if schema is None or schema is True else schema


def _types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    asked = schema.get("type", _TYPES)
    return frozenset([asked] if isinstance(asked, str) else asked)


def _canonical(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _differ(one: Any, other: Any) -> bool:
    return _canonical(one) != _canonical(other)
