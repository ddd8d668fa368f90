"""How an oracle says that something must not be."""

from __future__ import annotations


class Breach(AssertionError):
    """A promise was broken."""


def check(holds: object, message: str) -> None:
    if not holds:
        raise Breach(message)
