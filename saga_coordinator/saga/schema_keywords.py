"""JSON Schema 2020-12 as `jsonschema` checks it, made safe to run on what strangers send while the event loop waits.

What differs from that library's own keywords, and why:

- Every keyword pays for the work it is about to do out of one purse, `WORK_MAX` for an input: a schema of a kilobyte can
  otherwise ask for a billion comparisons, by references that double or by long lists checked against long lists.
- Regular expressions are RE2's, which take time in proportion to the text whatever the pattern. Look-around and back-references,
  which RE2 does not have, are refused at registration.
- `uniqueItems` compares canonical JSON, not each item with each; `multipleOf` counts in fractions, so that 19.99 is a multiple
  of 0.01.
- Errors say what would be right, and never show the value, which may be large or secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import re2
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from saga_coordinator.saga.errors import Fault
from saga_coordinator.saga.nearest import did_you_mean
from saga_coordinator.saga.schema_formats import FORMATS, fits
from saga_coordinator.saga.schema_structure import join

WORK_MAX = 100_000
"""Comparisons that checking one input may take: some 0.2 s, in which a coordinator does nothing else."""
_ALTERNATIVE_ERRORS_MAX = 20
_SHOWN_CHARACTERS_MAX = 80

Validator = Any
"""The library makes its classes at run time, and their types say less than they can do."""
Errors = Iterator[ValidationError]
Keyword = Callable[[Validator, Any, Any, Any], Errors | None]


class TooMuchWork(Exception):
    """Checking this input by this schema takes more than `WORK_MAX`."""


class _Purse:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = WORK_MAX


_purse: ContextVar[_Purse] = ContextVar("work left for the input being checked")


ERRORS_MAX = 100
"""Nobody mends more at once; one more is looked for, so that it can be said that there are more."""


def errors_of(validator: Validator, value: Any) -> list[ValidationError]:
    """What is wrong with the value, up to one more than `ERRORS_MAX`. Raises TooMuchWork."""
    token = _purse.set(_Purse())
    try:
        return list(islice(validator.iter_errors(value), 1 + ERRORS_MAX))
    finally:
        _purse.reset(token)


_SCANNING = frozenset(
    {
        "additionalProperties",
        "const",
        "contains",
        "enum",
        "pattern",
        "patternProperties",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
"""Keywords whose work grows with the value itself, and not only with what is checked inside it."""


def _paid(name: str, keyword: Keyword) -> Keyword:
    is_scanning = name in _SCANNING

    def check(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
        purse = _purse.get()
        purse.left -= 1 + _size(asked) + (_size(value) if is_scanning else 0)
        if purse.left < 0:
            raise TooMuchWork
        return iter(keyword(validator, asked, value, schema) or ())

    return check


def _size(value: Any) -> int:
    if isinstance(value, list | dict):
        return len(value)
    return len(value) // 64 if isinstance(value, str) else 0


@lru_cache(maxsize=1024)
def _pattern(source: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(source, options)


def pattern_problem(source: str) -> str | None:
    """Why the pattern cannot be used, or None."""
    try:
        _pattern(source)
    except re2.error as error:
        said = error.args[0] if error.args else error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"is not a regular expression of RE2, which has no look-around and no back-references: {text}"
    return None


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(_shown(value) for value in values[:10])
    return f"{shown} and {len(values) - 10} more" if len(values) > 10 else shown


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _canonical(value: Any) -> bytes:
    """Equal for what JSON Schema takes as equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value) if abs(value) < 2**63 else value
    elif isinstance(value, list):
        return b"[" + b",".join(map(_canonical, value)) + b"]"
    elif isinstance(value, dict):
        return (
            b"{"
            + b",".join(orjson.dumps(key) + b":" + _canonical(value[key]) for key in sorted(value))
            + b"}"
        )
    return orjson.dumps(value)


def _is_multiple(value: float, step: float) -> bool:
    return bool(step) and (Fraction(repr(value)) / Fraction(repr(step))).denominator == 1


def _has_format(value: str, name: Any) -> bool:
    return name not in FORMATS or fits(value, name)


def _plural(count: Any, noun: str) -> str:
    return f"{count:g} {noun}" + ("" if count == 1 else "s")


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "array": lambda value: isinstance(value, list),
    "number": _is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}

_ASSERTIONS: Mapping[str, tuple[str, Callable[[Any, Any], bool], Callable[[Any], str]]] = {
    "const": (
        "any",
        lambda value, asked: _canonical(value) == _canonical(asked),
        lambda asked: f"must be {_shown(asked)}",
    ),
    "enum": (
        "any",
        lambda value, asked: _canonical(value) in map(_canonical, asked),
        lambda asked: f"must be one of {_listed(asked)}",
    ),
    "exclusiveMaximum": (
        "number",
        lambda value, asked: bool(value < asked),
        lambda asked: f"must be below {_shown(asked)}",
    ),
    "exclusiveMinimum": (
        "number",
        lambda value, asked: bool(value > asked),
        lambda asked: f"must be above {_shown(asked)}",
    ),
    "format": ("string", _has_format, lambda asked: f"must be {FORMATS[asked][1]}"),
    "maxItems": (
        "array",
        lambda value, asked: len(value) <= asked,
        lambda asked: f"must have at most {_plural(asked, 'item')}",
    ),
    "maxLength": (
        "string",
        lambda value, asked: len(value) <= asked,
        lambda asked: f"must have at most {_plural(asked, 'character')}",
    ),
    "maxProperties": (
        "object",
        lambda value, asked: len(value) <= asked,
        lambda asked: f"must have at most {_plural(asked, 'field')}",
    ),
    "maximum": (
        "number",
        lambda value, asked: bool(value <= asked),
        lambda asked: f"must be at most {_shown(asked)}",
    ),
    "minItems": (
        "array",
        lambda value, asked: len(value) >= asked,
        lambda asked: f"must have at least {_plural(asked, 'item')}",
    ),
    "minLength": (
        "string",
        lambda value, asked: len(value) >= asked,
        lambda asked: f"must have at least {_plural(asked, 'character')}",
    ),
    "minProperties": (
        "object",
        lambda value, asked: len(value) >= asked,
        lambda asked: f"must have at least {_plural(asked, 'field')}",
    ),
    "minimum": (
        "number",
        lambda value, asked: bool(value >= asked),
        lambda asked: f"must be at least {_shown(asked)}",
    ),
    "multipleOf": ("number", _is_multiple, lambda asked: f"must be a multiple of {_shown(asked)}"),
    "pattern": (
        "string",
        lambda value, asked: _pattern(asked).search(value) is not None,
        lambda asked: f"must match {asked[:_SHOWN_CHARACTERS_MAX]}",
    ),
    "uniqueItems": (
        "array",
        lambda value, asked: not asked or len(set(map(_canonical, value))) == len(value),
        lambda asked: "must not have the same item twice",
    ),
}
"""What each keyword is about, whether a value holds it, and what to say to one that does not."""


def _assertion(name: str) -> Keyword:
    kind, holds, describe = _ASSERTIONS[name]
    concerns = _KINDS[kind]

    def check(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
        if concerns(value) and not holds(value, asked):
            yield ValidationError(describe(asked))

    return check


def _type(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    names = [asked] if isinstance(asked, str) else asked
    if not any(validator.is_type(value, name) for name in names):
        articles = [
            f"{'an' if name[0] in 'aeiou' else 'a'} {name}".replace("a null", "null") for name in names
        ]
        yield ValidationError(f"must be {' or '.join(articles)}, not {_name_of_type(value)}")


def _name_of_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"


def _required(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        for name in asked:
            if name not in value:
                yield ValidationError("is required", path=[name])


def _dependent_required(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        for present, names in asked.items():
            for name in names if present in value else ():
                if name not in value:
                    yield ValidationError(
                        f"is required beside `{present[:_SHOWN_CHARACTERS_MAX]}`", path=[name]
                    )


def _pattern_properties(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        for source, inner in asked.items():
            pattern = _pattern(source)
            for name in value:
                if pattern.search(name):
                    yield from validator.descend(value[name], inner, path=name)


def _additional_properties(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        named = schema.get("properties", {})
        patterns = [_pattern(source) for source in schema.get("patternProperties", ())]
        for name in value:
            if name not in named and not any(pattern.search(name) for pattern in patterns):
                if _is_nothing(asked):
                    known = f"; known here: {', '.join(sorted(named)[:20])}" if named else ""
                    yield ValidationError(f"is not known{known}{did_you_mean(name, named)}", path=[name])
                else:
                    yield from validator.descend(value[name], asked, path=name)


def _is_nothing(schema: Any) -> bool:
    return schema is False or schema == NOTHING


def _not(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if validator.evolve(schema=asked).is_valid(value):
        yield ValidationError(
            "is not allowed here" if asked in ({}, True) else "must not fit the schema under `not`"
        )


def _any_of(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    failed: list[list[ValidationError]] = []
    for inner in asked:
        errors = list(islice(validator.descend(value, inner), _ALTERNATIVE_ERRORS_MAX))
        if not errors:
            return
        failed.append(errors)
    yield _fits_none(failed)


def _one_of(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    failed: list[list[ValidationError]] = []
    fitting: list[int] = []
    for index, inner in enumerate(asked):
        errors = list(islice(validator.descend(value, inner), _ALTERNATIVE_ERRORS_MAX))
        if errors:
            failed.append(errors)
        else:
            fitting.append(index)
    if not fitting:
        yield _fits_none(failed)
    elif len(fitting) > 1:
        yield ValidationError(f"must fit one alternative of oneOf only; it fits {_listed(fitting)}")


def _fits_none(failed: Sequence[Sequence[ValidationError]]) -> ValidationError:
    """Shows the alternative that came nearest: fewest errors, and those deepest inside."""
    nearest = min(failed, key=lambda errors: (len(errors), -max(len(error.path) for error in errors)))[0]
    where = path_of(nearest.path)
    said = f"{where} {nearest.message}" if where else nearest.message
    return ValidationError(f"fits none of {len(failed)} alternatives; the nearest one says: {said}")


def _contains(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, list):
        least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
        inner = validator.evolve(schema=asked)
        fitting = sum(1 for item in value if inner.is_valid(item))
        if not least <= fitting <= most:
            limits = f"at least {least:g}" if fitting < least else f"at most {most:g}"
            yield ValidationError(
                f"must have {limits} items that fit the schema under `contains`; it has {fitting}"
            )


def _unevaluated(name: str, what: str) -> Keyword:
    library: Keyword = Draft202012Validator.VALIDATORS[name]

    def check(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
        if any(True for _ in library(validator, asked, value, schema) or ()):
            yield ValidationError(f"has {what} that no part of the schema knows")

    return check


_OWN: Mapping[str, Keyword] = {
    **{name: _assertion(name) for name in _ASSERTIONS},
    "additionalProperties": _additional_properties,
    "anyOf": _any_of,
    "contains": _contains,
    "dependentRequired": _dependent_required,
    "not": _not,
    "oneOf": _one_of,
    "patternProperties": _pattern_properties,
    "required": _required,
    "type": _type,
    "unevaluatedItems": _unevaluated("unevaluatedItems", "items"),
    "unevaluatedProperties": _unevaluated("unevaluatedProperties", "fields"),
}

NOTHING: Mapping[str, Any] = {"not": {}}
"""What `false` means. The library shows the whole value where a schema is `false` itself."""

InputValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _paid(name, keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)
_METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)


def metaschema_faults(schema: Any, path: str) -> list[Fault]:
    """Where the schema is none of JSON Schema 2020-12, up to `ERRORS_MAX` places."""
    return [
        Fault(path_of(error.path, path), f"is not valid JSON Schema: {_metaschema_text(error)}")
        for error in islice(_METASCHEMA.iter_errors(schema), ERRORS_MAX)
    ]


def _metaschema_text(error: ValidationError) -> str:
    match error.validator:
        case "type":
            expected: Any = error.validator_value
            names = [expected] if isinstance(expected, str) else expected
            return f"must be {' or '.join(names)}"
        case "anyOf" if error.path and error.path[-1] == "type":
            return "must be array, boolean, integer, null, number, object or string, or a list of these"
        case "enum":
            asked: Any = error.validator_value
            return f"must be one of {_listed(asked)}"
        case _:
            return error.message[:200]


def path_of(segments: Sequence[str | int] | Any, path: str = "") -> str:
    for segment in segments:
        path = join(path, segment)
    return path
