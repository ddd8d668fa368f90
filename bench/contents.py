"""Payloads that cost the most for their size: each is about as large as a payload may be, and worst for another part of the way.

A size is that of the `google.protobuf.Value` that carries the payload, which is what limits are stated in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_ROOM: Final = 64
"""Bytes left for what is around the large part."""


def _text(character: str) -> Callable[[int], Any]:
    width = len(character.encode())
    return lambda size: character * ((size - _ROOM) // width)


def _numbers(size: int) -> list[int]:
    return [7] * ((size - _ROOM) // 11)


def _large_numbers(size: int) -> list[float]:
    """Doubles that stand for whole numbers beyond 2**53, which have a canonical form of their own."""
    return [1e18 + 1e6 * index for index in range((size - _ROOM) // 11)]


def _fractions(size: int) -> list[float]:
    """Numbers with all their digits: more than twice as long as JSON."""
    return [-(1.0 + index) / 3e101 for index in range((size - _ROOM) // 11)]


def _keys(size: int) -> dict[str, int]:
    """Many fields, in the order that is the most work to sort."""
    return {f"{index * 7919 % 100_000:05d}": 1 for index in range((size - _ROOM) // 20)}


def _short_texts(size: int) -> list[str]:
    return ["\x01" * 7] * ((size - _ROOM) // 11 // 6)


def _nested(size: int) -> list[Any]:
    """As deep as it may be, and as often as there is room for."""
    one: Any = 1
    for _ in range(29):
        one = [one]
    return [one] * min((size - _ROOM) // 170, 3200)


CONTENTS: Final[Mapping[str, Callable[[int], Any]]] = {
    "control characters": lambda size: _text("\x01")(size // 6),
    "control characters, too many": _text("\x01"),
    "backslashes": _text("\\"),
    "astral characters": _text("\U0001f600"),
    "plain text": _text("x"),
    "small numbers": _numbers,
    "large numbers": _large_numbers,
    "fractions": _fractions,
    "keys": _keys,
    "short texts of control characters": _short_texts,
    "nested lists": _nested,
}
"""Makes a payload of about so many bytes."""
