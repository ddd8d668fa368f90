"""Checks of a request's fields: all of a request's faults are collected before it is refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

from google.protobuf import duration_pb2, struct_pb2

from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.saga.definition.parsing_actions import DEADLINE_SECONDS_MAX
from saga_coordinator.saga.words.act import Declaration
from saga_coordinator.saga.words.errors import Fault, InvalidRequest
from saga_coordinator.saga.words.identity import SAGA_ID
from saga_coordinator.saga.words.limits import (
    LABEL_NAME_CHARACTERS_MAX,
    LABEL_VALUE_CHARACTERS_MAX,
    LABELS_MAX,
)
from saga_coordinator.saga.words.names import EVENT_NAME, EVENT_NAME_CHARACTERS_MAX, NAME_CHARACTERS_MAX
from saga_coordinator.saga.words.outcome import TEXT_BYTES_MAX, Cause, clip
from saga_coordinator.wire.causes import CAUSE_CODE
from saga_coordinator.wire.payload import PayloadError, payload_of
from saga_coordinator.wire.times import duration_problem, seconds_of

CREDITS_MAX = 10_000
START_KEY_CHARACTERS_MAX = 200
STEP_KEY_CHARACTERS_MAX = 1000
EVENT_ID_CHARACTERS_MAX = 200
CORRELATION_CHARACTERS_MAX = 200
PERSON_CHARACTERS_MAX = 200
METHOD_CHARACTERS_MAX = 200
WORKER_ID_CHARACTERS_MAX = 200

DEFAULT_PAGE_SIZE = 100
PAGE_SIZE_MAX = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Declaring(Protocol):
    """A request that says who asks, and why."""

    @property
    def requested_by(self) -> str: ...
    @property
    def reason(self) -> str: ...


class FieldChecks:
    """Checks the fields of one request, each by its path in the contract, and collects every fault that it finds."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, path: str, description: str) -> None:
        self.found.append(Fault(path, description))

    def name(self, path: str, value: str, *, is_required: bool = False) -> str:
        """The name of a definition, a participant or a version, as far as its length goes."""
        return self.line(path, value, NAME_CHARACTERS_MAX, is_required=is_required)

    def line(self, path: str, value: str, characters_max: int, *, is_required: bool = False) -> str:
        """A text of one line, such as a name or a key."""
        if not value:
            if is_required:
                self.add(path, "is required")
        elif value.isspace():
            self.add(path, "must not be blank")
        elif len(value) > characters_max:
            self.add(path, f"has {len(value)} characters; {characters_max} is the limit")
        elif found := _CONTROL.search(value):
            name = unicodedata.name(found[0], f"U+{ord(found[0]):04X}")
            self.add(
                path, f"must not contain control characters; it has {name} at position {found.start() + 1}"
            )
        return value

    def event_name(self, path: str, value: str) -> str:
        """The name of an event that a step may await."""
        found = len(self.found)
        self.line(path, value, EVENT_NAME_CHARACTERS_MAX, is_required=True)
        if len(self.found) == found and not EVENT_NAME.fullmatch(value):
            self.add(
                path,
                f"{value!r} is no name that steps await: it must be a letter, then letters, digits, `_`, `-`, `.`, `:` or `/`",
            )
        return value

    def text(self, path: str, value: str, *, is_required: bool = False) -> str:
        """A text for people, perhaps of several lines."""
        if is_required and not value.strip():
            self.add(path, "is required")
        elif "\0" in value:
            self.add(path, "must not contain NUL characters")
        elif (size := len(value.encode())) > TEXT_BYTES_MAX:
            self.add(path, f"has {size} bytes; {TEXT_BYTES_MAX} is the limit")
        return value

    def declaration(self, request: Declaring, *, is_reason_required: bool = False) -> Declaration:
        """Who asks for an act, and why, as its request says."""
        requested_by = self.text("requested_by", request.requested_by)
        return Declaration(requested_by, self.text("reason", request.reason, is_required=is_reason_required))

    def saga_id(self, value: str) -> str:
        saga_id = value.lower()
        if not value:
            self.add("saga_id", "is required")
        elif not SAGA_ID.fullmatch(saga_id):
            self.add("saga_id", "must be a UUID, as StartSaga returned it")
        return saga_id

    def version(self, value: int) -> int:
        if value < 0:
            self.add("version", "must be 1 or more, or 0 for the default version")
        return value

    def payload(self, path: str, value: struct_pb2.Value, bytes_max: int) -> Any:
        try:
            return payload_of(value, bytes_max)
        except PayloadError as error:
            self.found.extend(error.below(path).faults)
            return None

    def cause(self, path: str, told: saga_pb2.Cause, default_code: str) -> Cause:
        """The cause that a participant tells; a long message is cut, as it is in an answer of the participant."""
        code = told.code or default_code
        if not CAUSE_CODE.fullmatch(code):
            self.add(f"{path}.code", f"must be like the name of a gRPC status: {CAUSE_CODE.pattern}")
        return Cause(code, clip(told.message))

    def seconds(self, path: str, value: duration_pb2.Duration, *, may_be_zero: bool = False) -> float:
        seconds = seconds_of(value)
        if problem := duration_problem(value):
            self.add(path, problem)
        elif seconds > DEADLINE_SECONDS_MAX:
            self.add(path, f"is no duration of at most {DEADLINE_SECONDS_MAX:.0f} s")
        elif seconds < 0 or (seconds == 0 and not may_be_zero):
            self.add(path, f"is {seconds:g} s; it must be {'0 or more' if may_be_zero else 'more than 0'}")
        return seconds

    def labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        if len(labels) > LABELS_MAX:
            self.add("labels", f"has {len(labels)} labels; {LABELS_MAX} is the limit")
            return {}
        for key, value in labels.items():
            if not key:
                self.add("labels", "has a label without a key")
            self.line(f"labels[{key[:LABEL_NAME_CHARACTERS_MAX]!r}]", key, LABEL_NAME_CHARACTERS_MAX)
            self.line(f"labels[{key[:LABEL_NAME_CHARACTERS_MAX]!r}]", value, LABEL_VALUE_CHARACTERS_MAX)
        return dict(labels)

    def page_size(self, value: int, default: int = DEFAULT_PAGE_SIZE) -> int:
        if not 0 <= value <= PAGE_SIZE_MAX:
            self.add("page_size", f"is {value}; it must be 1 to {PAGE_SIZE_MAX}, or 0 for {default}")
        return value or default

    def credits(self, path: str, value: int, *, may_be_zero: bool = False) -> None:
        least = 0 if may_be_zero else 1
        if not least <= value <= CREDITS_MAX:
            self.add(
                path, f"is {value}; it must be {least} to {CREDITS_MAX}, the number of tasks taken at once"
            )

    def done(self) -> None:
        if self.found:
            raise InvalidRequest(self.found)
