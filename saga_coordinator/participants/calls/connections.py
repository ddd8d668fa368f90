"""The connections to all participants that have an address: who shares a connection, and when a connection is closed."""

from __future__ import annotations

import asyncio

from saga_coordinator.lifecycle import Background
from saga_coordinator.participants.calls.connection import Address, Connection
from saga_coordinator.participants.calls.described import DescribedServices
from saga_coordinator.participants.calls.plain_method import PlainMethods
from saga_coordinator.participants.directory.addresses import Directory


class Connections:
    """The connections of one coordinator. Used from one event loop.

    Participants with equal addresses share a connection. A connection is retired when no participant has its address any more,
    and a retired connection is closed once its calls have ended.
    """

    def __init__(
        self, directory: Directory, *, payload_bytes_max: int, request_bytes_max: int, reply_bytes_max: int
    ) -> None:
        self._directory = directory
        self._payload_bytes_max = payload_bytes_max
        self._request_bytes_max = request_bytes_max
        self._reply_bytes_max = reply_bytes_max
        self._by_name: dict[str, Connection] = {}
        self._by_address: dict[Address, Connection] = {}
        self._plain: dict[str, PlainMethods] = {}
        self._open: set[Connection] = set()
        self._closing = Background()
        self._calls_in_flight = 0
        self._last_ended: asyncio.Future[None] | None = None
        self.is_stopping = False

    def of(self, name: str) -> Connection | None:
        """The connection to a participant, made when it is first asked for; None for an unknown participant and for a worker."""
        return self._by_name.get(name) or self._connect(name)

    def plain_methods(self, name: str, connection: Connection) -> PlainMethods:
        """The methods of a participant that knows nothing of sagas, over its connection."""
        plain = self._plain.get(name)
        if plain is None:
            participant = self._directory.get(name)
            described = participant and participant.descriptor_set
            services = DescribedServices(described, can_change=False) if described else connection.reflected
            plain = self._plain[name] = PlainMethods(
                connection.channel,
                services,
                payload_bytes_max=self._payload_bytes_max,
                request_bytes_max=self._request_bytes_max,
            )
        return plain

    def began(self, connection: Connection) -> None:
        """Notes that a call is made over the connection, which stays open for the call. `ended` has to follow."""
        connection.calls_in_flight += 1
        self._calls_in_flight += 1

    def ended(self, connection: Connection) -> None:
        """Notes that a call has ended."""
        connection.calls_in_flight -= 1
        self._calls_in_flight -= 1
        if not connection.calls_in_flight and connection.is_retired:
            self._close(connection)
        if not self._calls_in_flight and self._last_ended is not None and not self._last_ended.done():
            self._last_ended.set_result(None)

    def connectivity(self, name: str) -> str:
        """The state of a participant's channel by its gRPC name, such as READY; empty if there is no channel."""
        connection = self._by_name.get(name)
        return connection.channel.get_state().name if connection is not None else ""

    def replace(self, directory: Directory) -> None:
        """Uses the addresses in `directory` from the next call on."""
        self._directory = directory
        self._by_name.clear()
        self._plain.clear()
        called = [each for each in directory.participants.values() if not each.is_worker]
        named = {Address.of(participant) for participant in called}
        for address in self._by_address.keys() - named:
            self._retire(address)

    def change(self, directory: Directory, name: str) -> None:
        """Does what `replace` does, for a `directory` that differs in that participant only.

        The other participants are looked at only if the participant was connected before.
        """
        was, self._directory = self._directory.get(name), directory
        self._by_name.pop(name, None)
        self._plain.pop(name, None)
        address = None if was is None or was.is_worker else Address.of(was)
        if address in self._by_address and not any(
            Address.of(each) == address for each in directory.participants.values() if not each.is_worker
        ):
            self._retire(address)

    async def stop(self, grace_seconds: float) -> None:
        """Gives the calls in flight `grace_seconds` to end, then closes all connections, which cancels calls that are left."""
        self.is_stopping = True
        if self._last_ended is None:
            self._last_ended = asyncio.get_running_loop().create_future()
        if self._calls_in_flight:
            await asyncio.wait([self._last_ended], timeout=grace_seconds)
        self._by_name.clear()
        self._by_address.clear()
        while self._open:
            await self._open.pop().close()
        await self._closing.finish()

    def _connect(self, name: str) -> Connection | None:
        participant = self._directory.get(name)
        if participant is None or participant.is_worker:
            return None
        address = Address.of(participant)
        connection = self._by_address.get(address)
        if connection is None:
            connection = self._by_address[address] = Connection(address, self._reply_bytes_max)
            self._open.add(connection)
        self._by_name[name] = connection
        return connection

    def _retire(self, address: Address) -> None:
        connection = self._by_address.pop(address)
        connection.is_retired = True
        if not connection.calls_in_flight:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection in self._open:  # `stop` may have closed it
            self._open.discard(connection)
            self._closing.spawn("closing of a connection", connection.close())
