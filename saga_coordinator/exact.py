"""Tells which numbers a payload keeps as they are written.

A payload travels as `google.protobuf.Value`, which knows only doubles. Up to 2**53 every whole number has a double of its own.
Beyond that, several numbers share one double, and all of them come back with its shortest digits: 9007199254740993 comes back as
9007199254740992, and 2**60 as 1152921504606847000. Where we read the digits ourselves, we refuse such a number, because nobody
would notice that it had changed.
"""

from __future__ import annotations

from decimal import Decimal
from math import isfinite

EXACT_MAX = 2**53
"""Up to here every whole number is kept."""


class NotKept(ValueError):
    """A number that would change on its way. The message says to what, and the way out."""


def number_of(written: str) -> int | float:
    """The number that is written in decimal digits; a fraction as the nearest double.

    Raises:
        NotKept: it is beyond 2**53 and its digits would change, or no double is so large.
        ValueError: it is no number.
    """
    double = float(written)
    if not isfinite(double):
        raise NotKept(f"{shown(written)} is beyond the range of a number; write it as a string, in quotes")
    if abs(double) >= EXACT_MAX and (kept := Decimal(repr(double))) != Decimal(written):
        raise NotKept(_changed(shown(written), kept))
    try:
        return int(written)
    except ValueError:  # it has a point or an exponent
        return double


def check_whole(number: int) -> int:
    """The number itself. Raises NotKept where its digits would change."""
    if -EXACT_MAX <= number <= EXACT_MAX:
        return number
    if abs(number) >= 2**1023:
        raise NotKept(
            "a number of more than 300 digits is none that is kept; write it as a string, in quotes"
        )
    if (kept := Decimal(repr(float(number)))) != number:
        raise NotKept(_changed(str(number), kept))
    return number


def shown(written: str) -> str:
    return written if len(written) <= 40 else f"{written[:40]}..."


def _changed(written: str, kept: Decimal) -> str:
    return (
        f"{written} cannot be kept as a number, which is a double and would be {shown(str(int(kept)))} here; "
        "write it as a string, in quotes"
    )
