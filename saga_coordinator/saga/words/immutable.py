"""Immutable by the checker's word, for what is made so often that the interpreter's own word is too dear."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Made = TypeVar("_Made")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def immutable(made: type[_Made]) -> type[_Made]:
    """A dataclass with slots that mypy holds to be frozen.

    `frozen=True` would make each instance several times as slow to make, and these are made with every entry of every saga.
    """
    return dataclass(slots=True, unsafe_hash=True)(made)
