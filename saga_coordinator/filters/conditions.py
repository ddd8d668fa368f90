"""What a filter says, as a closed union: nothing of a filter's text is left but constants.

A comparison with a field that a saga does not have, such as `ended_at` while it runs, is false. So `!=` and `!` are true there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from saga_coordinator.filters.fields import Subject
from saga_coordinator.saga.words.immutable import immutable


class Order(StrEnum):
    """How a field is ordered in relation to a constant."""

    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


@immutable
class FromNow:
    """The moment at which the filter is evaluated, and so much later; earlier if `delay` is negative."""

    delay: timedelta


Instant = datetime | FromNow


@immutable
class OneOf:
    """The field has one of the values; at least one is given, and all are of the field's kind."""

    subject: Subject
    values: tuple[str | int, ...]


@immutable
class Compared:
    """The field is ordered so in relation to the value, which is a number or an instant, as the field is."""

    subject: Subject
    order: Order
    value: int | Instant


@immutable
class BeginsWith:
    """The field, a text, begins with the prefix."""

    subject: Subject
    prefix: str


@immutable
class Present:
    """The saga has the field."""

    subject: Subject


@immutable
class Remains:
    """The step is among those whose effect remains or may remain."""

    step: str


@immutable
class Not:
    condition: Condition


@immutable
class All:
    conditions: tuple[Condition, ...]


@immutable
class AnyOf:
    conditions: tuple[Condition, ...]


Condition = OneOf | Compared | BeginsWith | Present | Remains | Not | All | AnyOf
