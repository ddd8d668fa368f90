"""What the server can do: its services, methods and messages, found as they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message

from sagactl.contract.comments import comments_of
from sagactl.contract.sources import File, Source
from sagactl.endings import Lacking, NotFound

PACKAGE = "saga.v1"

Symbol = ServiceDescriptor | MethodDescriptor | Descriptor | EnumDescriptor | FieldDescriptor


class Contract:
    """The descriptors of one source, in a pool of their own."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pool = descriptor_pool.DescriptorPool()
        self._files: dict[str, File] = {}
        self._asked: set[str] = set()
        self._services: list[str] | None = None
        self._comments: dict[str, str] | None = None

    def services(self) -> list[str]:
        """The full names of all services."""
        if self._services is None:
            self._services = self._source.services()
        return self._services

    def service(self, full_name: str) -> ServiceDescriptor | None:
        """The service, or None if the server has none of that name."""
        self._learn(full_name)
        with contextlib.suppress(KeyError):
            return self._pool.FindServiceByName(full_name)
        return None

    def method(self, written: str) -> MethodDescriptor:
        """The method that `written` names: in full, `Service/Method`, or the method alone where only one has that name.

        Raises:
            Lacking: the server has no such method, or several.
        """
        service, _, name = written.strip("/").replace("/", ".").rpartition(".")
        found = list(self._methods(service, name))
        if len(found) == 1:
            return found[0]
        if found:
            choices = ", ".join(_path(each) for each in found)
            raise Lacking(f"several methods are called `{written}`; name one of them: {choices}")
        raise Lacking(self._no_method(written, name))

    def maybe_method(self, full_name: str) -> MethodDescriptor | None:
        """The method of that full name (`package.Service/Method`), or None if the server has none."""
        service, _, name = full_name.partition("/")
        found = self.service(service)
        return None if found is None else found.methods_by_name.get(name)

    def _methods(self, service: str, name: str) -> Iterator[MethodDescriptor]:
        known = self.services() if service.count(".") < 1 else [service]
        for full_name in known:
            if not service or full_name == service or full_name.endswith(f".{service}"):
                found = self.service(full_name)
                method = None if found is None else found.methods_by_name.get(name)
                if method is not None:
                    yield method

    def _no_method(self, written: str, name: str) -> str:
        import difflib  # noqa: PLC0415  # only for this

        paths = [_path(method) for service in self.services() for method in self._all_of(service)]
        near = difflib.get_close_matches(name, [path.rpartition("/")[2] for path in paths], 3)
        meant = [path for path in paths if path.rpartition("/")[2] in near]
        hint = (
            f"; did you mean {' or '.join(meant)}?" if meant else "; `sagactl list-methods` lists what it has"
        )
        return f"the server has no method `{written}`{hint}"

    def _all_of(self, service: str) -> list[MethodDescriptor]:
        found = self.service(service)
        return [] if found is None else list(found.methods)

    def symbol(self, full_name: str) -> Symbol:
        """The service, method, message, enum or field of that full name; names of saga.v1 may leave the package out.

        Raises:
            NotFound: the server describes no such thing.
        """
        written = full_name.strip("./").replace("/", ".")
        known = [each.rpartition(".") for each in self.services()]
        packages = {PACKAGE: None} | {package: None for package, _, _ in known}
        services = [f"{package}.{name}.{written}" for package, _, name in known]
        for candidate in (written, *(f"{package}.{written}" for package in packages), *services):
            self._learn(candidate)
            for find in (
                self._pool.FindServiceByName,
                self._pool.FindMethodByName,
                self._pool.FindMessageTypeByName,
                self._pool.FindEnumTypeByName,
                self._pool.FindFieldByName,
            ):
                with contextlib.suppress(KeyError):
                    return find(candidate)
        raise NotFound(
            f"the server describes nothing called `{full_name}`; `sagactl list-methods` lists its methods"
        )

    def message_class(self, descriptor: Descriptor) -> type[Message]:
        """The class of a message."""
        return message_factory.GetMessageClass(descriptor)

    def any_class(self, type_url: str) -> type[Message] | None:
        """The class of what a google.protobuf.Any holds, or None if the server does not describe it."""
        name = type_url.rpartition("/")[2]
        self._learn(name)
        try:
            return self.message_class(self._pool.FindMessageTypeByName(name))
        except KeyError:
            return None

    def comment(self, symbol: Any) -> str:
        """The contract's comment about a symbol, as a few lines of text; empty if there is none."""
        if self._comments is None:
            self._comments = {}
            for file in self._files.values():
                self._comments.update(comments_of(file))
        return self._comments.get(symbol.full_name, "")

    def value_comment(self, enum: EnumDescriptor, value: str) -> str:
        """The contract's comment about a value of an enum."""
        self.comment(enum)
        return (self._comments or {}).get(f"{enum.full_name}.{value}", "")

    def _learn(self, symbol: str) -> None:
        """Puts the file that declares the symbol, and all that this file imports, into the pool."""
        if symbol in self._asked or not symbol:
            return
        self._asked.add(symbol)
        files = {file.name: file for file in self._source.files_with(symbol)}
        for name in list(files):
            self._add(name, files)
        if files:
            self._comments = None

    def _add(self, name: str, given: dict[str, File]) -> None:
        if name in self._files:
            return
        file = given.get(name) or self._source.file(name)
        if file is None:
            raise Lacking(f"the contract is not complete: it lacks {name}")
        self._files[name] = file
        for dependency in file.dependency:
            self._add(dependency, given)
        bare = descriptor_pb2.FileDescriptorProto()
        bare.CopyFrom(file)
        bare.ClearField("source_code_info")
        try:
            self._pool.Add(bare)
        except TypeError as error:
            raise Lacking(
                f"the server describes {name} in a way that does not hold together: {error}"
            ) from None


def _path(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"
