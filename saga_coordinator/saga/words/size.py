"""Measures a payload by the size of the `google.protobuf.Value` that carries it. Every limit of a payload is stated in this
size.

A payload is sent as protobuf and kept as JSON, and the two differ. `0,` of JSON takes 11 bytes of protobuf, so a limit of JSON
says nothing about what a participant's gRPC server takes, which is 4 MiB by default. Conversely, a control character takes one
byte of protobuf and six of JSON, so it counts as six. Nothing else is more than two and a half times as long in JSON.

The limit also bounds the work of measuring, which ends at the first byte or value too many.
"""

from __future__ import annotations

from typing import Any

VALUES_MAX = 100_000
"""The most values in one payload. The payload itself and each item and field in it count, at whatever depth. The cost of
converting a payload grows with its values, not with its bytes. A list of numbers reaches the default limit of bytes first.
"""

_NUMBER_BYTES = 9
_WORD_BYTES = 2
_TAG_BYTES = 1
_REMEMBERED_VALUES_MIN = 64
"""The size from which lists and objects are remembered. Measuring a smaller one again is faster than looking it up."""

CONTROL_BYTES = 6
"""The bytes that a control character counts for: `\\u0001`. JSON has shorter forms for five control characters, which count as
they are.
"""
_CONTROLS = bytes(range(32)).translate(None, b"\b\t\n\f\r")
_SHORT_CHARACTERS_MAX = 256
"""A text up to this length is first searched for control characters, and encoded to count them only if it has any. For a longer
text, encoding at once is as fast.
"""


class TooLarge(Exception):
    """A payload that is too large; the message says by what."""


class TooFar(Exception):
    """Measuring the payload takes more work than `walk_max` allows. Its size is not known."""


class Measure:
    """Measures payloads against one limit, and remembers the large lists and objects that it has seen.

    A decision may put one large value into the inputs of a thousand calls; the value is walked through once. Payloads are never
    changed. A remembered payload is kept alive, so that no other object gets its identity.
    """

    __slots__ = ("_bytes_max", "_seen", "_values", "_values_max", "walk_max", "walked")

    def __init__(self, bytes_max: int, values_max: int = VALUES_MAX) -> None:
        self._bytes_max = bytes_max
        self._values_max = values_max
        self._values = 0
        self.walked = 0
        """The number of items and fields that have been looked at so far."""
        self.walk_max: int | None = None
        """The most items and fields that may be looked at in this thread; None sets no limit."""
        self._seen: dict[int, tuple[Any, int, int]] = {}

    def check(self, payload: Any) -> int:
        """The payload's size in bytes. Raises TooLarge, and TooFar where there is a `walk_max`."""
        self._values = 1
        size = self._size(payload)
        if size > self._bytes_max:
            raise self._too_many_bytes()
        return size

    def _size(self, payload: Any) -> int:
        kind = type(payload)
        if kind is str:
            size = text_bytes(payload)
            return 2 + size if size < 0x80 else _delimited(size)
        if kind is dict or kind is list:
            return self._size_of_many(payload, is_object=kind is dict)
        return _WORD_BYTES if payload is None or kind is bool else _NUMBER_BYTES

    def _size_of_many(self, payload: Any, *, is_object: bool) -> int:
        if not payload:
            return _WORD_BYTES
        if (seen := self._seen.get(id(payload))) is not None:
            self._count(seen[2])
            return seen[1]
        values_before = self._values
        self.walked += len(payload)
        if self.walk_max is not None and self.walked > self.walk_max:
            raise TooFar
        self._count(len(payload))
        size = _delimited(self._fields(payload) if is_object else self._items(payload))
        values = self._values - values_before
        if values >= _REMEMBERED_VALUES_MIN:
            self._seen[id(payload)] = (payload, size, values)
        return size

    def _items(self, items: list[Any]) -> int:
        total, bytes_max = 0, self._bytes_max
        for item in items:
            kind = type(item)
            if kind is int or kind is float:
                size = _NUMBER_BYTES
            elif item is None or kind is bool:
                size = _WORD_BYTES
            else:
                size = self._size(item)
            total += 2 + size if size < 0x80 else _delimited(size)
            if total > bytes_max:
                raise self._too_many_bytes()
        return total

    def _fields(self, fields: dict[str, Any]) -> int:
        total, bytes_max = 0, self._bytes_max
        for name, item in fields.items():
            kind = type(item)
            if kind is int or kind is float:
                size = _NUMBER_BYTES
            elif item is None or kind is bool:
                size = _WORD_BYTES
            else:
                size = self._size(item)
            named = text_bytes(name)
            size += 4 + named if named < 0x80 and size < 0x80 else _delimited(named) + _delimited(size) - size
            total += 2 + size if size < 0x80 else _delimited(size)
            if total > bytes_max:
                raise self._too_many_bytes()
        return total

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > self._values_max:
            raise TooLarge(
                f"has more than {self._values_max} values, counting each item and field; that is the limit"
            )

    def _too_many_bytes(self) -> TooLarge:
        return TooLarge(
            f"is more than {self._bytes_max} bytes as protobuf, which is the limit; a control character counts as {CONTROL_BYTES}"
        )


def text_bytes(text: str) -> int:
    """The size of a text in UTF-8, where a control character counts as `CONTROL_BYTES`."""
    if len(text) <= _SHORT_CHARACTERS_MAX and text.isprintable():
        return len(text) if text.isascii() else len(text.encode())
    encoded = text.encode(errors="surrogatepass")
    plain = len(encoded.translate(None, _CONTROLS))
    return plain + CONTROL_BYTES * (len(encoded) - plain)


def _delimited(size: int) -> int:
    """The bytes that a field of this size takes with its tag and its length."""
    if size < 0x80:
        return _TAG_BYTES + 1 + size
    return _TAG_BYTES + (size.bit_length() + 6) // 7 + size
