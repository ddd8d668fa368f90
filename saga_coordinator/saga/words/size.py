"""How large a payload is, as the `google.protobuf.Value` that carries it: what every limit of a payload is stated in.

A payload is sent as protobuf and kept as JSON, and the two differ. `0,` of JSON takes 11 bytes of protobuf, so a limit of JSON
says nothing about what a participant's gRPC server takes, which is 4 MiB by default. The other way round, a control character
takes one byte of protobuf and six of JSON, so it counts as six. Nothing else is more than two and a half times as long as JSON.

The work of measuring is bounded by what is allowed: it ends at the first byte or value too many.
"""

from __future__ import annotations

from typing import Any

VALUES_MAX = 100_000
"""Values in one payload: it, and each item and field in it at whatever depth. What converting a payload costs grows with these,
not with its bytes. A list of numbers meets the default limit of bytes first."""

_NUMBER_BYTES = 9
_WORD_BYTES = 2
_TAG_BYTES = 1
_REMEMBERED_VALUES_MIN = 64
"""Smaller lists and objects are measured again sooner than they are looked up."""

CONTROL_BYTES = 6
"""What a control character counts for: `\\u0001`. JSON has shorter forms for five of them, which count as they are."""
_CONTROLS = bytes(range(32)).translate(None, b"\b\t\n\f\r")
_SHORT_CHARACTERS_MAX = 256
"""Whether a short text has any is looked at before it is encoded to count them, which is as fast for a longer one."""


class TooLarge(Exception):
    """A payload that is too large; the message says by what."""


class TooFar(Exception):
    """To measure it takes longer than there is time here; nothing is known of it."""


class Measure:
    """Measures payloads against one limit, and remembers the large lists and objects that it has seen.

    A decision may put one large value into the inputs of a thousand calls; it is walked through once. Payloads are never changed,
    and those that are remembered are kept, so that their identity stays theirs.
    """

    __slots__ = ("_bytes_max", "_seen", "_values", "_values_max", "walk_max", "walked")

    def __init__(self, bytes_max: int, values_max: int = VALUES_MAX) -> None:
        self._bytes_max = bytes_max
        self._values_max = values_max
        self._values = 0
        self.walked = 0
        """How many items and fields have been looked at so far: the work."""
        self.walk_max: int | None = None
        """How many may be looked at here; None for as many as there are."""
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
    """What a field of so many bytes takes, with its tag and its length."""
    if size < 0x80:
        return _TAG_BYTES + 1 + size
    return _TAG_BYTES + (size.bit_length() + 6) // 7 + size
