"""Dataclasses that mypy holds to be immutable. They are made so often that a check by the interpreter would be too slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Made = TypeVar("_Made")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(made: type[_Made]) -> type[_Made]:
    """A dataclass with slots that mypy holds to be frozen.

    With `frozen=True`, making an instance would take several times as long, and such instances are made with every entry of
    every saga.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
