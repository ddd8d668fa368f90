"""Definitions, and the steps that participants declare for them."""

from __future__ import annotations

from google.protobuf import json_format

from saga_coordinator.pb.saga.v1 import definition_service_pb2, worker_service_pb2
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.store.lists import DeclaredStep
from saga_coordinator.wire.times import timestamp_of


def registered_message(
    registered: RegisteredDefinition, into: definition_service_pb2.RegisteredDefinition | None = None
) -> definition_service_pb2.RegisteredDefinition:
    """A registered definition. It is written `into` an empty message, if that is given: to copy it there would take long."""
    message = definition_service_pb2.RegisteredDefinition() if into is None else into
    json_format.ParseDict(registered.spec, message.definition)
    message.version = registered.version
    message.digest = registered.digest
    message.registered_at.CopyFrom(timestamp_of(registered.registered_at))
    message.deprecated = registered.deprecated
    message.is_default = registered.is_default
    return message


def write_declared(step: DeclaredStep, message: worker_service_pb2.DeclaredStep) -> None:
    """Writes a step as its participant declared it into an empty message."""
    json_format.ParseDict(step.spec, message)
