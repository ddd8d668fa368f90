"""Asks a server: calls its methods with plain values, by the server's own description of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from sagactl.connecting.channel import metadata_of, open_channel
from sagactl.connecting.connection import Connection
from sagactl.connecting.diagnosis import why_unreachable
from sagactl.contract.contract import PACKAGE, Contract
from sagactl.contract.plain import message_from, plain_of
from sagactl.contract.sources import DescriptorSet, ServerReflection, Source
from sagactl.contract.statuses import Answered
from sagactl.endings import Lacking, Problem, Unavailable, WrongUsage

_READING = ("Can", "Check", "Explain", "Get", "List", "Preview", "Validate", "Wait", "Watch")
"""How the names of methods begin that change nothing, and so may be repeated whatever happened to the first call."""

_PAUSES_SECONDS = (0.2, 0.5, 1.0)
"""Before a call is repeated, where the server does not say when."""

_T = TypeVar("_T")
Plain = dict[str, Any]


class Server:
    """One server. Errors of calls come out as Problem, in words."""

    def __init__(self, connection: Connection) -> None:
        """Connects at the first question. Raises WrongUsage for files that cannot be read."""
        self.connection = connection
        self._token = connection.read_token()
        self._channel = open_channel(connection)
        self._contract: Contract | None = None
        self._has_answered = False
        self._is_token_renewed = False

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    @property
    def contract(self) -> Contract:
        """What the server can do. Questions to it raise gRPC's errors: ask through `described`."""
        if self._contract is None:
            self._contract = Contract(self._source())
        return self._contract

    def described(self, question: Callable[[Contract], _T]) -> _T:
        """The answer of `question`, which looks something up in the contract. Raises Problem."""
        return self._repeated("the server's reflection", True, lambda: question(self.contract))

    def has(self, method: str) -> bool:
        """Whether the server has the method: `saga.v1.SagaService/GetSaga`."""
        return self.maybe_method(method) is not None

    def maybe_method(self, name: str) -> MethodDescriptor | None:
        """The method of that full name, or None if the server does not have it."""
        return self.described(lambda contract: contract.maybe_method(name))

    def method(self, name: str) -> MethodDescriptor:
        """The method of that full name. Raises Lacking, in a sentence, if the server does not have it."""
        found = self.maybe_method(name)
        if found is None:
            raise Lacking(self._why_lacking(name))
        return found

    def call(
        self, method: str, request: Mapping[str, Any], *, seconds: float | None = None, defaults: bool = True
    ) -> Plain:
        """Calls a method without streams. `seconds` is how long it may take. Raises Problem."""
        return self.call_method(self.method(method), request, seconds=seconds, defaults=defaults)

    def call_method(
        self,
        method: MethodDescriptor,
        request: Mapping[str, Any],
        *,
        seconds: float | None = None,
        defaults: bool = True,
    ) -> Plain:
        """The same for a method that was found already."""
        message = message_from(request, method.input_type, self.contract)
        give_up_at = time.monotonic() + (seconds or self.connection.timeout_seconds)

        def perform() -> Message:
            call = self._channel.unary_unary(*self._wire(method))
            left = max(give_up_at - time.monotonic(), 0.001)
            answer: Message = call(message, timeout=left, metadata=self._metadata())
            return answer

        answer = self._repeated(_path(method), _is_reading(method), perform)
        self._has_answered, self._is_token_renewed = True, False
        return self._shown(answer, defaults)

    def stream(
        self,
        method: str | MethodDescriptor,
        requests: Iterable[Mapping[str, Any]],
        *,
        seconds: float | None = None,
        defaults: bool = True,
    ) -> Iterator[Plain]:
        """Calls a method that streams, and yields its answers as they come. Raises Problem."""
        found = self.method(method) if isinstance(method, str) else method
        faults: list[Problem] = []
        messages = self._messages(found, requests, faults)
        sent = messages if found.client_streaming else next(messages, None)
        if sent is None:
            raise WrongUsage(f"{found.name} takes one request, and was given none")
        try:
            for answer in self._streaming(found)(sent, seconds, self._metadata()):
                self._has_answered = True
                yield self._shown(answer, defaults)
        except grpc.RpcError as error:
            raise faults[0] if faults else self._problem(Answered(error), _path(found)) from None

    def _messages(
        self, method: MethodDescriptor, requests: Iterable[Mapping[str, Any]], faults: list[Problem]
    ) -> Iterator[Message]:
        """The messages that the requests say. gRPC takes them in a thread of its own, where a fault would be lost: it is kept."""
        try:
            for request in requests:
                yield message_from(request, method.input_type, self.contract)
        except Problem as problem:
            faults.append(problem)
            raise

    def pages(
        self, method: str, request: Mapping[str, Any], items: str, *, defaults: bool = True
    ) -> Iterator[Plain]:
        """The items of a list, page by page as they are taken. `items` is the field that holds them."""
        token = ""
        while True:
            page = self.call(
                method, {**request, **({"page_token": token} if token else {})}, defaults=defaults
            )
            yield from page.get(items, ())
            token = page.get("next_page_token", "")
            if not token:
                return

    def _streaming(self, method: MethodDescriptor) -> Callable[[Any, float | None, Any], Iterable[Message]]:
        wire = self._wire(method)
        if not method.server_streaming:
            once: Any = self._channel.stream_unary(*wire)
            return lambda sent, seconds, metadata: [once(sent, timeout=seconds, metadata=metadata)]
        many: Any = (
            self._channel.stream_stream(*wire)
            if method.client_streaming
            else self._channel.unary_stream(*wire)
        )
        return lambda sent, seconds, metadata: many(sent, timeout=seconds, metadata=metadata)

    def _wire(
        self, method: MethodDescriptor
    ) -> tuple[str, Callable[[Message], bytes], Callable[[bytes], Message]]:
        answer = self.contract.message_class(method.output_type)
        return f"/{_path(method)}", lambda message: message.SerializeToString(), answer.FromString

    def _shown(self, answer: Message, defaults: bool) -> Plain:
        plain = plain_of(answer, self.contract, defaults=defaults)
        return plain if isinstance(plain, dict) else {"value": plain}

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return metadata_of(self.connection, self._token)

    def _source(self) -> Source:
        if self.connection.descriptor_set:
            return DescriptorSet(self.connection.descriptor_set)
        return ServerReflection(self._channel, self._metadata(), self.connection.timeout_seconds)

    def _repeated(self, what: str, is_reading: bool, perform: Callable[[], _T]) -> _T:
        """Performs a call, again where that is safe: the server asks for it, or the call only reads and was cut off."""
        give_up_at = time.monotonic() + self.connection.timeout_seconds
        pauses = iter(_PAUSES_SECONDS)
        while True:
            try:
                return perform()
            except grpc.RpcError as error:
                answered = Answered(error)
            if self._has_new_token(answered):
                continue
            is_cut_off = is_reading and self._has_answered and answered.code is grpc.StatusCode.UNAVAILABLE
            pause = answered.retry_after_seconds
            if pause is None and not is_cut_off:
                raise self._problem(answered, what)
            pause = max(pause or 0.0, next(pauses, _PAUSES_SECONDS[-1]))
            if time.monotonic() + pause >= give_up_at:
                raise self._problem(answered, what)
            time.sleep(pause)

    def _has_new_token(self, answered: Answered) -> bool:
        """Asks for a new token once, where the server does not take this one any more and a command gives tokens."""
        is_refused = answered.code is grpc.StatusCode.UNAUTHENTICATED
        if not is_refused or not self.connection.token_command or self._is_token_renewed:
            return False
        self._token, self._is_token_renewed = self.connection.read_token(), True
        if self._contract is not None and not self._has_answered:
            self._contract = None
        return True

    def _problem(self, answered: Answered, what: str) -> Problem:
        if not answered.is_from_the_server and not self._has_answered and answered.code in _UNREACHED:
            reason = why_unreachable(self.connection)
            if reason is not None:
                return Unavailable(reason, details=answered.plain())
        if answered.code is grpc.StatusCode.DEADLINE_EXCEEDED and not self._has_answered:
            reason = why_unreachable(self.connection)
            return Unavailable(
                reason or f"{self.connection.address} does not answer", details=answered.plain()
            )
        return answered.problem(what)

    def _why_lacking(self, name: str) -> str:
        services = self.described(lambda contract: contract.services())
        if not any(service.startswith(f"{PACKAGE}.") for service in services):
            return (
                f"{self.connection.address} is a gRPC server, but no saga coordinator: it has "
                f"{', '.join(services) or 'no services'}"
            )
        return f"this server has no {name.removeprefix(f'{PACKAGE}.')}: it is of another version than this command needs"


_UNREACHED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def _path(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def _is_reading(method: MethodDescriptor) -> bool:
    return method.name.startswith(_READING)
