"""Definitions, and the steps that participants declare for them."""

from __future__ import annotations

from google.protobuf import json_format

from saga_coordinator.pb.saga.v1 import definition_pb2, definition_service_pb2, worker_service_pb2
from saga_coordinator.saga.definition.registered import RegisteredDefinition
from saga_coordinator.store.lists import DeclaredStep
from saga_coordinator.wire.times import timestamp_of


def registered_message(registered: RegisteredDefinition) -> definition_service_pb2.RegisteredDefinition:
    return definition_service_pb2.RegisteredDefinition(
        definition=json_format.ParseDict(registered.spec, definition_pb2.Definition()),
        version=registered.version,
        digest=registered.digest,
        registered_at=timestamp_of(registered.registered_at),
        deprecated=registered.deprecated,
        is_default=registered.is_default,
    )


def declared_message(step: DeclaredStep) -> worker_service_pb2.DeclaredStep:
    """A step as its participant declared it."""
    return json_format.ParseDict(step.spec, worker_service_pb2.DeclaredStep())
