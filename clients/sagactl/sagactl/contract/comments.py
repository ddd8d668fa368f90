"""The comments of a file's symbols, which a file carries by the position of each symbol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf import descriptor_pb2

_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_MESSAGES, _MESSAGE_ENUMS, _MESSAGE_ONEOFS = 2, 3, 4, 8
_INSIDE = 2
"""The number of the field that holds an enum's values, and a service's methods."""

_Path = tuple[int, ...]
_Named = Iterator[tuple[_Path, str]]


def comments_of(file: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    """The comment of each symbol by its full name. A value of an enum stands below its enum: `saga.v1.Effect.EFFECT_NONE`."""
    said = {
        tuple(each.path): _text(each.leading_comments or each.trailing_comments)
        for each in file.source_code_info.location
    }
    return {name: said[path] for path, name in _symbols(file) if said.get(path)}


def _text(comment: str) -> str:
    """The comment as paragraphs: one line for each, with an empty line between them."""
    paragraphs = "\n".join(line.strip() for line in comment.strip().splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> _Named:
    package = f"{file.package}." if file.package else ""
    for number, service in enumerate(file.service):
        yield (_FILE_SERVICES, number), f"{package}{service.name}"
        yield from _named(
            (_FILE_SERVICES, number, _INSIDE),
            f"{package}{service.name}.",
            (each.name for each in service.method),
        )
    for number, message in enumerate(file.message_type):
        yield from _of_message((_FILE_MESSAGES, number), package, message)
    for number, enum in enumerate(file.enum_type):
        yield from _of_enum((_FILE_ENUMS, number), package, enum)


def _of_message(path: _Path, scope: str, message: descriptor_pb2.DescriptorProto) -> _Named:
    name = f"{scope}{message.name}"
    yield path, name
    yield from _named((*path, _MESSAGE_FIELDS), f"{name}.", (each.name for each in message.field))
    yield from _named((*path, _MESSAGE_ONEOFS), f"{name}.", (each.name for each in message.oneof_decl))
    for number, nested in enumerate(message.nested_type):
        yield from _of_message((*path, _MESSAGE_MESSAGES, number), f"{name}.", nested)
    for number, enum in enumerate(message.enum_type):
        yield from _of_enum((*path, _MESSAGE_ENUMS, number), f"{name}.", enum)


def _of_enum(path: _Path, scope: str, enum: descriptor_pb2.EnumDescriptorProto) -> _Named:
    yield path, f"{scope}{enum.name}"
    yield from _named((*path, _INSIDE), f"{scope}{enum.name}.", (each.name for each in enum.value))


def _named(path: _Path, scope: str, names: Iterable[str]) -> _Named:
    for number, name in enumerate(names):
        yield (*path, number), f"{scope}{name}"
