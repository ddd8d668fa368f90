"""JSON Schema 2020-12 as `jsonschema` checks it, made safe for inputs from strangers while the event loop waits.

These are the differences from the library's own keywords, with their reasons:

- Every keyword pays for the work it is about to do, at its own price (`prices`) and out of one budget for an input: a
  schema of a kilobyte can otherwise ask for a billion comparisons, by references that double, by patterns that are each tried on
  each key, or by long lists compared with long lists.
- Regular expressions are RE2's, which take time in proportion to the text whatever the pattern. Look-around and back-references,
  which RE2 does not have, are refused at registration.
- `uniqueItems` compares canonical JSON, not each item with each; `multipleOf` counts in fractions, so that 19.99 is a multiple
  of 0.01.
- Errors say what would be right, and never show the value, which may be large or secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from saga_coordinator.saga.schema.formats import FORMATS, fits
from saga_coordinator.saga.schema.prices import ERROR_PRICE, price_of
from saga_coordinator.saga.schema.structure import join
from saga_coordinator.saga.schema.values import are_equal, canonical, is_multiple, is_number, pattern_of
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.work import spend

_ALTERNATIVE_ERRORS_MAX = 20
_GUESSES_MAX = 5
"""The most unknown fields of one object for which a message says what was probably meant. Each of them is compared with all
known fields.
"""
_SHOWN_CHARACTERS_MAX = 80

Validator = Any
"""The library makes its classes at run time, and their types say less than they can do."""
Errors = Iterator[ValidationError]
Keyword = Callable[[Validator, Any, Any, Any], Errors | None]


ERRORS_MAX = 100
"""The most errors that are listed. Nobody mends more at once. One more error is looked for, so that the answer can say that
there are more.
"""


def errors_of(validator: Validator, value: Any) -> list[ValidationError]:
    """The errors of the value, at most one more than `ERRORS_MAX`. Raises TooMuchWork."""
    return list(islice(validator.iter_errors(value), 1 + ERRORS_MAX))


def _paid(name: str, keyword: Keyword) -> Keyword:
    price = price_of(name)

    def check(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
        spend(price(asked, value, schema))
        for error in keyword(validator, asked, value, schema) or ():
            spend(ERROR_PRICE)
            yield error

    return check


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}..."


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(_shown(value) for value in values[:10])
    return f"{shown} and {len(values) - 10} more" if len(values) > 10 else shown


def _has_format(value: str, name: Any) -> bool:
    return name not in FORMATS or fits(value, name)


def _plural(count: Any, noun: str) -> str:
    return f"{count:g} {noun}" + ("" if count == 1 else "s")


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "array": lambda value: isinstance(value, list),
    "number": is_number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}

_ASSERTIONS: Mapping[str, tuple[str, Callable[[Any, Any], bool], Callable[[Any], str]]] = {
    "const": (
        "any",
        are_equal,
        lambda asked: f"must be {_shown(asked)}",
    ),
    "enum": (
        "any",
        lambda value, asked: any(are_equal(value, one) for one in asked),
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
    "multipleOf": ("number", is_multiple, lambda asked: f"must be a multiple of {_shown(asked)}"),
    "pattern": (
        "string",
        lambda value, asked: pattern_of(asked).search(value) is not None,
        lambda asked: f"must match {asked[:_SHOWN_CHARACTERS_MAX]}",
    ),
    "uniqueItems": (
        "array",
        lambda value, asked: not asked or len(set(map(canonical, value))) == len(value),
        lambda asked: "must not have the same item twice",
    ),
}
"""For each keyword: the values that it is about, the check of a value, and the message for a value that fails."""


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
            pattern = pattern_of(source)
            for name in value:
                if pattern.search(name):
                    yield from validator.descend(value[name], inner, path=name)


def _additional_properties(validator: Validator, asked: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        named = schema.get("properties", {})
        patterns = [pattern_of(source) for source in schema.get("patternProperties", ())]
        is_closed = _is_nothing(asked)
        known = f"; known here: {', '.join(sorted(named)[:20])}" if is_closed and named else ""
        guesses = _GUESSES_MAX
        for name in value:
            if name not in named and not any(pattern.search(name) for pattern in patterns):
                if is_closed:
                    meant = did_you_mean(name, named) if guesses > 0 else ""
                    guesses -= 1
                    yield ValidationError(f"is not known{known}{meant}", path=[name])
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
    """Shows the errors of the alternative that came nearest: the one with the fewest errors, and the deepest inside."""
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
"""The schema that stands for `false`. If a schema were `false` itself, the library would show the whole value."""

InputValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _paid(name, keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)


def path_of(segments: Sequence[str | int] | Any, path: str = "") -> str:
    for segment in segments:
        path = join(path, segment)
    return path
