"""Page tokens: where the next page begins, bound to the list and the filter that they were given for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import Message

from saga_coordinator.saga.words.act import ActRecord
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.identity import SAGA_ID
from saga_coordinator.store.pages import Page
from saga_coordinator.views.room import RESPONSE_BYTES_MAX

ANY = re.compile(r"[^\0]+")
NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
"""What positions in a list are: anybody can make a token that has a digest, so nothing else is trusted to be there."""

EVENT = re.compile(r"[0-9]{1,17} [^\0]+", re.ASCII)
"""Microseconds since 1970, and the identity."""

ACT = re.compile(rf"{SAGA_ID.pattern} [a-z]+", re.ASCII)
"""The identity, a UUID as a saga's is, and the result."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST_BYTES = 8

_Item = TypeVar("_Item")
_M = TypeVar("_M", bound=Message)


def fill_page(
    request: Message,
    page: Page[_Item],
    into: RepeatedCompositeFieldContainer[_M],
    write: Callable[[_Item, _M], object],
    position: Callable[[_Item], str],
) -> str:
    """Puts as many items `into` an answer as it may have; returns the token for the rest, empty if there is no rest.

    `write` writes an item into an empty message, which stands in the answer already: to copy it there would take long.
    `page` was bounded by its size as JSON. A message may be several times larger: a number of two digits takes eleven bytes.
    """
    room = RESPONSE_BYTES_MAX
    for count, item in enumerate(page.items):
        message = into.add()
        write(item, message)
        room -= message.ByteSize()
        if room < 0 and count:
            del into[-1]
            return page_token(request, position(page.items[count - 1]))
    return page_token(request, position(page.items[-1])) if page.has_more else ""


def position_of_event(published_at: datetime, event_id: str) -> str:
    """The position of an event in a list by the time of publication."""
    return f"{(published_at - _EPOCH) // timedelta(microseconds=1)} {event_id}"


def event_at(position: str) -> tuple[datetime, str]:
    """The instant and the identity that `position_of_event` was given."""
    microseconds, _, event_id = position.partition(" ")
    return _EPOCH + timedelta(microseconds=int(microseconds)), event_id


def position_of_act(record: ActRecord) -> str:
    """Where the record of an act is in a list by identity."""
    return f"{record.act.act_id} {record.result}"


def act_at(position: str) -> tuple[str, str]:
    """What `position_of_act` was given: the act's identity and its result."""
    act_id, _, result = position.partition(" ")
    return act_id, result


def page_token(request: Message, position: str) -> str:
    """The token for what follows `position` in the list that `request` asks for."""
    raw = _digest(request, position) + position.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def position_of(request: Message, token: str, pattern: re.Pattern[str] = ANY) -> str | None:
    """The position in `token`, which fits `pattern`; None for an empty token.

    Raises:
        InvalidRequest: the token was changed, or given for another list or filter.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = raw[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeError, ValueError):
        position = ""
    if not position or not pattern.fullmatch(position) or token != page_token(request, position):
        raise InvalidRequest.at(
            "page_token",
            "is not a token of this list with this filter; repeat the filter of the page before, or begin again without a token",
        )
    return position


def _digest(request: Message, position: str) -> bytes:
    """The digest of the position and of the request without its page size and token. It guards against mistakes, not malice: a
    token opens nothing that the list itself would not show."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_size")
    bare.ClearField("page_token")
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES, person=b"page_token")
    digest.update(type(request).DESCRIPTOR.full_name.encode() + b"\0")
    digest.update(bare.SerializeToString(deterministic=True))
    digest.update(b"\0" + position.encode())
    return digest.digest()
