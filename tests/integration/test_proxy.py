"""The proxy leaves nothing open, at whatever moment it is shut."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest

from tests.integration.proxy import Proxy


@pytest.mark.parametrize("turns", range(8))
async def test_what_was_accepted_just_when_it_is_shut_is_closed(turns: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        proxy = Proxy(f"postgresql://127.0.0.1:{target.getsockname()[1]}/none")
        proxy.open()
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            for _ in range(turns):
                await asyncio.sleep(0)  # one turn of the loop
            await proxy.shut()
            gc.collect()  # what was left open would warn of that, and the warning is an error
            with contextlib.suppress(ConnectionResetError):  # where it was not accepted
                assert client.recv(1) == b""
