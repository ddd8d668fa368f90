"""The fields that filters compare, and of which kind each is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from saga_coordinator.saga.words.identity import PARENT_LABEL
from saga_coordinator.saga.words.immutable import immutable


class Kind(StrEnum):
    """The kind of a field's values. The member's value names it in messages."""

    TEXT = "a text"
    STATUS = "a status"
    IDENTITY = "an identity"
    NUMBER = "a whole number"
    INSTANT = "a time"
    SPAN = "a duration"


@immutable
class Field:
    """A field of a saga. `is_optional`: there are sagas that do not have it."""

    name: str
    kind: Kind
    is_optional: bool = False


@immutable
class Label:
    """One of a saga's labels, which are texts. Each is optional."""

    key: str

    @property
    def name(self) -> str:
        """How a filter names the label."""
        return f'labels["{self.key}"]'

    @property
    def kind(self) -> Kind:
        return Kind.TEXT

    @property
    def is_optional(self) -> bool:
        return True


Subject = Field | Label

REMAINING = Field("remaining", Kind.NUMBER)
"""The number of steps whose effect remains or may remain; a filter writes `size(remaining)`."""

STARTED_AT = Field("started_at", Kind.INSTANT)
LAST_ENTRY_AT = Field("last_entry_at", Kind.INSTANT)

SPANS: Mapping[str, Field] = {"age": STARTED_AT, "idle": LAST_ENTRY_AT}
"""The time since an instant, by its name in filters."""

FIELDS: Mapping[str, Subject] = {
    "parent": Label(PARENT_LABEL),
    **{
        field.name: field
        for field in (
            Field("saga_id", Kind.IDENTITY),
            Field("status", Kind.STATUS),
            Field("definition", Kind.TEXT),
            Field("version", Kind.NUMBER),
            Field("start_key", Kind.TEXT),
            Field("claim_group", Kind.TEXT),
            Field("owner", Kind.IDENTITY, is_optional=True),
            STARTED_AT,
            LAST_ENTRY_AT,
            Field("ended_at", Kind.INSTANT, is_optional=True),
            Field("deadline_at", Kind.INSTANT, is_optional=True),
            Field("failure.code", Kind.TEXT, is_optional=True),
            Field("failure.step", Kind.TEXT, is_optional=True),
            Field("blocked_by.code", Kind.TEXT, is_optional=True),
            Field("blocked_by.step", Kind.TEXT, is_optional=True),
        )
    },
}
"""The fields by their names in filters. A saga has its parent's identity as a label."""

NAMES = (*FIELDS, *SPANS, "labels", "remaining", "now")
"""All that a filter may name."""
