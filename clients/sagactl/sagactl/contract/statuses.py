"""Errors of calls in words: the message, and what google.rpc's details add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from sagactl.endings import Defect, Denied, Lacking, NotFound, Problem, Refused, Unavailable

_TRAILER = "grpc-status-details-bin"

_TEXT, _INT32, _INT64, _MESSAGE, _BYTES = 9, 5, 3, 11, 12
_MANY = 3

_DETAILS: Mapping[str, tuple[tuple[str, int, int, str], ...]] = {
    # name of the field, its number, its type, and for messages which one; `*` marks many of them.
    "Duration": (("seconds", 1, _INT64, ""), ("nanos", 2, _INT32, "")),
    "Any": (("type_url", 1, _TEXT, ""), ("value", 2, _BYTES, "")),
    "Status": (("code", 1, _INT32, ""), ("message", 2, _TEXT, ""), ("details", 3, _MESSAGE, "*Any")),
    "Pair": (("key", 1, _TEXT, ""), ("value", 2, _TEXT, "")),
    "ErrorInfo": (("reason", 1, _TEXT, ""), ("domain", 2, _TEXT, ""), ("metadata", 3, _MESSAGE, "*Pair")),
    "RetryInfo": (("retry_delay", 1, _MESSAGE, "Duration"),),
    "FieldViolation": (("field", 1, _TEXT, ""), ("description", 2, _TEXT, "")),
    "BadRequest": (("field_violations", 1, _MESSAGE, "*FieldViolation"),),
    "ResourceInfo": (
        ("resource_type", 1, _TEXT, ""),
        ("resource_name", 2, _TEXT, ""),
        ("owner", 3, _TEXT, ""),
        ("description", 4, _TEXT, ""),
    ),
    "PreconditionViolation": (
        ("type", 1, _TEXT, ""),
        ("subject", 2, _TEXT, ""),
        ("description", 3, _TEXT, ""),
    ),
    "PreconditionFailure": (("violations", 1, _MESSAGE, "*PreconditionViolation"),),
    "DebugInfo": (("stack_entries", 1, _TEXT, "*"), ("detail", 2, _TEXT, "")),
    "LocalizedMessage": (("locale", 1, _TEXT, ""), ("message", 2, _TEXT, "")),
}
"""The messages of google.rpc that errors carry, by their fields' numbers. A distribution has them, too, and hundreds more."""

_PROBLEMS: Mapping[grpc.StatusCode, type[Problem]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: Refused,
    grpc.StatusCode.ALREADY_EXISTS: Refused,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.OUT_OF_RANGE: Refused,
    grpc.StatusCode.ABORTED: Refused,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Unavailable,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.UNAUTHENTICATED: Denied,
    grpc.StatusCode.UNIMPLEMENTED: Lacking,
}


class Answered:
    """The error that answered a call, taken apart."""

    def __init__(self, error: grpc.RpcError) -> None:
        call: Any = error
        self.code: grpc.StatusCode = call.code()
        self.message = " ".join((call.details() or "").split())
        self.details: dict[str, Any] = {}
        """The details by the last part of their names; those that nobody knows with their size."""
        for key, value in call.trailing_metadata() or ():
            if key == _TRAILER:
                self.details.update(_unpacked(value))

    @property
    def retry_after_seconds(self) -> float | None:
        """When the server says to repeat the call; None: it does not say so."""
        info = self.details.get("RetryInfo")
        if info is None:
            return None
        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)

    @property
    def is_from_the_server(self) -> bool:
        """Whether the coordinator answered, rather than gRPC or something in between."""
        return bool(self.details)

    def problem(self, method: str) -> Problem:
        """The error that ends the command."""
        kind = _PROBLEMS.get(self.code, Defect)
        return kind(*self._lines(method), details=self.plain())

    def plain(self) -> dict[str, object]:
        """The same for programs."""
        said: dict[str, object] = {"status": self.code.name, "message": self.message}
        if "ErrorInfo" in self.details:
            info = self.details["ErrorInfo"]
            said["reason"] = info.reason
            said["metadata"] = {pair.key: pair.value for pair in info.metadata}
        if "BadRequest" in self.details:
            said["faults"] = [
                {"field": each.field, "description": each.description}
                for each in self.details["BadRequest"].field_violations
            ]
        if (seconds := self.retry_after_seconds) is not None:
            said["retry_after_seconds"] = seconds
        return said

    def _lines(self, method: str) -> Iterator[str]:
        faults = [
            f"{each.field}: {each.description}" if each.field else each.description
            for each in getattr(self.details.get("BadRequest"), "field_violations", ())
        ]
        if faults:
            yield from faults
        elif self.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            yield f"{method} was not answered in time; give it longer with --timeout"
        else:
            reason = self.details["ErrorInfo"].reason if "ErrorInfo" in self.details else self.code.name
            yield f"{self.message or 'no reason was given'} ({reason})"
        if (seconds := self.retry_after_seconds) is not None:
            yield f"the server says: repeat it in {seconds:g} s"
        for name, detail in self.details.items():
            if isinstance(detail, str):
                yield f"it also sent {name}: {detail}"


def _unpacked(raw: str | bytes) -> Iterator[tuple[str, Any]]:
    known = _classes()
    try:
        status: Any = known["Status"].FromString(raw if isinstance(raw, bytes) else raw.encode())
        for packed in status.details:
            name = packed.type_url.rpartition("/")[2]
            short = name.removeprefix("google.rpc.")
            if short in known:
                yield short, known[short].FromString(packed.value)
            else:
                yield name, f"{len(packed.value)} bytes that this program cannot read"
    except DecodeError:
        yield "details", "bytes that are no google.rpc.Status"


@cache
def _classes() -> Mapping[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="sagactl/details.proto", package="sagactl", syntax="proto3"
    )
    for name, fields in _DETAILS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            added = message.field.add(
                name=field, number=number, type=kind, label=_MANY if of.startswith("*") else 1
            )
            if kind == _MESSAGE:
                added.type_name = f".sagactl.{of.lstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"sagactl.{name}"))
        for name in _DETAILS
    }
