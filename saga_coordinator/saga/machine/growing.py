"""An immutable mapping. Making a copy with one more entry is cheap, however large the mapping is."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any, TypeVar, overload

V = TypeVar("V")
D = TypeVar("D")

_RECENT_MAX = 32
"""The most entries that are copied for each new entry while the mapping is small. In a large mapping it is the square root of
its length.
"""


def having(mapping: Mapping[str, V], key: str, value: V) -> Mapping[str, V]:
    """The mapping with that entry, which is new or replaces the entry of that key. A small mapping is a plain dictionary."""
    if isinstance(mapping, Growing):
        return mapping.having(key, value)
    if len(mapping) < _RECENT_MAX:
        return {**mapping, key: value}
    return Growing(mapping).having(key, value)


class Growing(Mapping[str, V]):
    """An immutable mapping that iterates in the order in which its keys first appeared.

    It consists of two dictionaries that are never changed: a large one, which many versions share, and a small one with the
    newer entries. A new version copies only the small dictionary. Once the small dictionary is as long as the square root of
    the large one, the two are joined.
    """

    __slots__ = ("_recent", "_rest")

    def __init__(self, rest: Mapping[str, V] | None = None, recent: Mapping[str, V] | None = None) -> None:
        self._rest = rest or {}
        self._recent = recent or {}

    def having(self, key: str, value: V) -> Growing[V]:
        """The mapping with that entry, which is new or replaces the entry of that key."""
        recent = {**self._recent, key: value}
        if len(recent) > _RECENT_MAX and len(recent) ** 2 > len(self._rest):
            return Growing({**self._rest, **recent})
        return Growing(self._rest, recent)

    def __getitem__(self, key: str) -> V:
        recent = self._recent
        return recent[key] if key in recent else self._rest[key]

    @overload
    def get(self, key: str, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: str, default: V | D, /) -> V | D: ...
    def get(self, key: str, default: Any = None, /) -> Any:
        recent = self._recent
        return recent[key] if key in recent else self._rest.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._recent or key in self._rest

    def __iter__(self) -> Iterator[str]:
        return iter(self._joined())

    def __len__(self) -> int:
        return len(self._rest) + sum(key not in self._rest for key in self._recent)

    def __bool__(self) -> bool:
        return bool(self._recent or self._rest)

    def items(self) -> ItemsView[str, V]:
        return self._joined().items()

    def values(self) -> ValuesView[V]:
        return self._joined().values()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._joined() == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._joined())

    def _joined(self) -> dict[str, V]:
        return {**self._rest, **self._recent}
