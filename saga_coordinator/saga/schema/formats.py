"""The formats of strings that an input schema can ask for. As in JSON Schema, any other format is a remark and checks
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import AddressValueError, IPv4Address, IPv6Address

# None of these patterns backtracks: the time is proportional to the text's length.
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(
    r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII | re.IGNORECASE
)
_DURATION = re.compile(r"P(?!\Z)(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?!\Z)(\d+H)?(\d+M)?(\d+S)?)?)", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~%]*")
_LONGEST = 2048


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_instant(text: str) -> bool:
    """RFC 3339: a date, T, a time with its offset."""
    return _is_date(text[:10]) and text[10:11] in {"T", "t"} and _TIME.fullmatch(text[11:]) is not None


def _is_address(kind: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            kind(text)
        except AddressValueError:
            return False
        return "%" not in text

    return check


def _is_hostname(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


FORMATS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "date": (_is_date, "a date such as 2026-01-31"),
    "date-time": (_is_instant, "an instant such as 2026-01-31T12:30:00Z"),
    "duration": (lambda text: _DURATION.fullmatch(text) is not None, "a duration such as P1DT12H"),
    "email": (lambda text: _EMAIL.fullmatch(text) is not None, "an e-mail address"),
    "hostname": (_is_hostname, "a host name"),
    "ipv4": (_is_address(IPv4Address), "an IPv4 address"),
    "ipv6": (_is_address(IPv6Address), "an IPv6 address"),
    "time": (lambda text: _TIME.fullmatch(text) is not None, "a time such as 12:30:00Z"),
    "uri": (lambda text: _URI.fullmatch(text) is not None, "a URI"),
    "uuid": (lambda text: _UUID.fullmatch(text) is not None, "a UUID"),
}
"""The check of each format, and the format's name in messages. A string that is too long for every format fits none."""


def fits(text: str, name: str) -> bool:
    """Tells whether `text` has the format `name`, which is one of `FORMATS`."""
    check, _ = FORMATS[name]
    return len(text) <= _LONGEST and check(text)
