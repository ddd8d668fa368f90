"""Reads the addresses at which a coordinator listens, and the settings for who may connect to its unix sockets."""

from __future__ import annotations

import grp
import re
from typing import Any

from saga_coordinator.sockets import PORT_MAX, UNIX_PATH_BYTES_MAX


def addresses_of(written: Any) -> tuple[str, ...]:
    """The addresses at which to listen. Raises ValueError."""
    items = written.split(",") if isinstance(written, str) else written
    if not isinstance(items, list | tuple) or not items:
        raise ValueError("must be a list of addresses: HOST:PORT or unix:PATH")
    addresses = tuple(address_of(item) for item in items)
    for address in addresses:
        if addresses.count(address) > 1 and not address.endswith(":0"):
            raise ValueError(f"names {address} twice")
    return addresses


def peer_address_of(written: Any) -> str:
    """The address at which other coordinators reach this coordinator. Raises ValueError."""
    address = address_of(written)
    if address.startswith("unix:"):
        raise ValueError("must be HOST:PORT, as in 127.0.0.1:0 or 0.0.0.0:7243")
    return address


def address_of(written: Any) -> str:
    """HOST:PORT, or unix:PATH without the two slashes that a URL would have. Raises ValueError."""
    address = written.strip() if isinstance(written, str) else ""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        if not path or "\0" in path:
            raise ValueError("must name the socket: unix:PATH")
        if len(path.encode()) > UNIX_PATH_BYTES_MAX:
            raise ValueError(
                f"has a socket path of more than {UNIX_PATH_BYTES_MAX} bytes, which is the system's limit"
            )
        return f"unix:{path}"
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[A-Za-z0-9._-]+):(\d{1,5})", address)
    if found is None or int(found[2]) > PORT_MAX:
        raise ValueError("must be HOST:PORT, as in 127.0.0.1:7242 or [::1]:7242, or unix:PATH")
    return address


def socket_mode_of(written: Any) -> int:
    """The permissions of a unix socket, written in octal as for chmod. Raises ValueError."""
    is_octal = isinstance(written, str) and re.fullmatch(r"0?o?[0-7]{3}", written)
    if not is_octal:
        raise ValueError(
            "must be three octal digits in quotes, as in 0660: the owner's, the group's and all others' rights"
        )
    return int(written.removeprefix("0").removeprefix("o"), 8)


def socket_group_of(written: Any) -> int:
    """The number of a group, from its number or its name on this machine. Raises ValueError."""
    if type(written) is int or (isinstance(written, str) and re.fullmatch(r"\d{1,10}", written)):
        return int(written)
    if not isinstance(written, str):
        raise ValueError("must be the name or the number of a group")
    try:
        return grp.getgrnam(written).gr_gid
    except (KeyError, ValueError):
        raise ValueError("is no group of this machine; give its number instead") from None
