"""Large payloads are converted beside the event loop, and what waits for that is bounded."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from saga_coordinator.saga.words.errors import Overloaded
from saga_coordinator.wire import conversion
from saga_coordinator.wire.conversion import AT_ONCE_BYTES_MAX, convert, convert_request, size_of
from saga_coordinator.wire.payload import to_value


async def test_what_is_large_is_converted_in_a_thread_and_what_is_small_at_once() -> None:
    here = threading.get_ident()
    assert await convert(AT_ONCE_BYTES_MAX, threading.get_ident) == here
    elsewhere = await convert(AT_ONCE_BYTES_MAX + 1, threading.get_ident)
    assert elsewhere != here
    assert await convert_request(AT_ONCE_BYTES_MAX + 1, threading.get_ident) == elsewhere, "there is one"


async def test_what_it_raises_is_heard() -> None:
    for size in (0, AT_ONCE_BYTES_MAX + 1):
        with pytest.raises(ValueError, match="invalid literal"):
            await convert(size, int, "x")


async def test_callers_are_refused_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "WAITING_MAX", 2)
    may_end = threading.Event()
    large = AT_ONCE_BYTES_MAX + 1
    waiting = [asyncio.ensure_future(convert_request(large, may_end.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(Overloaded, match="2 requests with large payloads wait"):
            await convert_request(large, may_end.wait)
        assert await convert_request(1, int, "7") == 7, "small ones wait for nothing"
    finally:
        may_end.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await convert_request(large, int, "7") == 7


def test_how_large_a_payload_is_costs_no_more_than_it_takes_to_know_that_it_is_large() -> None:
    small = {"order": 7, "lines": [{"sku": "A"}, None]}
    assert size_of(small) == to_value(small).ByteSize()
    larges: list[Any] = ["x" * AT_ONCE_BYTES_MAX, [None] * 4001, [[]] * 1_000_000]
    for large in larges:
        assert size_of(large) == AT_ONCE_BYTES_MAX + 1
