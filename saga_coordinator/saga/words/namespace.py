"""Namespaces. Each holds its own definitions, sagas, events, participants and keys, and sees nothing of the other
namespaces.
"""

from __future__ import annotations

import re
from typing import NewType

from saga_coordinator.saga.words.errors import InvalidRequest

Namespace = NewType("Namespace", str)
"""The name of a namespace. A type of its own, so that no other name is taken for it."""

DEFAULT_NAMESPACE = Namespace("default")
"""The namespace of callers who name none, and of everything that was stored before there were namespaces."""

_NAMESPACE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def parse_namespace(text: str, path: str = "namespace") -> Namespace:
    """The namespace that `text` names; for the empty text `DEFAULT_NAMESPACE`. `path` is where the text was given.

    Raises:
        InvalidRequest: it is no name of a namespace.
    """
    if not text:
        return DEFAULT_NAMESPACE
    if _NAMESPACE.fullmatch(text) is None:
        raise InvalidRequest.at(
            path,
            f"is {text[:100]!r}; the name of a namespace has up to 63 lower-case letters, digits and hyphens, begins with a "
            "letter and does not end with a hyphen",
        )
    return Namespace(text)
