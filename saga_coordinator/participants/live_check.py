"""A definition checked against what its participants serve at this moment.

What references will come to is not known before a saga runs; the names of the fields around them, and the literal values, are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from saga_coordinator.participants.calls import Participants
from saga_coordinator.participants.described import DescribedServices
from saga_coordinator.participants.descriptors import NotDescribed
from saga_coordinator.participants.fit import UNRESOLVED, misfits
from saga_coordinator.pb.saga.v1 import definition_pb2
from saga_coordinator.saga.errors import Fault
from saga_coordinator.saga.expression import compile_template
from saga_coordinator.saga.outcome import CauseCode, clip

PATIENCE_SECONDS = 5.0
"""How long participants may take to say what they serve; they are all asked at once."""

_DEFINITION: Any = definition_pb2.Definition.DESCRIPTOR
_OPERATION = definition_pb2.Operation.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class _Call:
    """An operation of the definition, and where it stands there."""

    path: str
    participant: str
    method: str
    input: Any

    def fault(self, field: str, description: str) -> Fault:
        return Fault(f"{self.path}.{field}", clip(description))


async def live_faults(spec: dict[str, Any], participants: Participants) -> list[Fault]:
    """What keeps the operations of a valid definition from being called where the directory says that they are.

    `spec` is its canonical JSON form, with the contract's field names.
    """
    calls = list(_calls(spec, _DEFINITION, ""))
    services = {name: participants.described_afresh(name) for name in {call.participant for call in calls}}
    try:
        found = await asyncio.gather(
            *(_faults(call, participants.names, services[call.participant]) for call in calls)
        )
    finally:
        for each in services.values():
            if each is not None:
                each.close()
    return [fault for faults in found for fault in faults]


def _calls(source: dict[str, Any], descriptor: Descriptor, path: str) -> Iterator[_Call]:
    """Every operation in `source`, in the contract's order; payloads are not looked into."""
    if descriptor.full_name == _OPERATION and "participant" in source:
        yield _Call(path, source["participant"], source.get("method", ""), source.get("input"))
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.file.name != descriptor.file.name or field.name not in source:
            continue
        place = f"{path}.{field.name}" if path else field.name
        if not field.is_repeated:
            yield from _calls(source[field.name], inner, place)
        elif isinstance(source[field.name], list):
            for index, item in enumerate(source[field.name]):
                yield from _calls(item, inner, f"{place}[{index}]")


async def _faults(call: _Call, names: frozenset[str], services: DescribedServices | None) -> list[Fault]:
    if call.participant not in names:
        return [call.fault("participant", f"the participants file does not know `{call.participant}`")]
    if services is None or "/" not in call.method:
        return []  # a worker, or an implementation of saga.v1.ParticipantService: neither says what it knows by which name
    try:
        method = await services.method(call.method, PATIENCE_SECONDS)
    except NotDescribed as error:
        field = "method" if error.code == CauseCode.NO_SUCH_METHOD else "participant"
        return [call.fault(field, f"{call.participant}: {error}")]
    except TimeoutError:
        return [
            call.fault(
                "participant", f"{call.participant} does not say within {PATIENCE_SECONDS:g} s what it serves"
            )
        ]
    if method.streams:
        return [call.fault("method", f"is {method.streams}; a step calls a unary method")]
    return misfits(_literal(call.input), method, f"{call.path}.input")


def _literal(source: Any) -> Any:
    """A payload as it will be sent, as far as that is known by now."""
    if isinstance(source, dict):
        return {key: _literal(item) for key, item in source.items()}
    if isinstance(source, list):
        return [_literal(item) for item in source]
    if isinstance(source, str):
        template = compile_template(source, "", [])
        return UNRESOLVED if template.expressions else template.render({})
    return source
