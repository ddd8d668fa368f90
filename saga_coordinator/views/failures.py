"""Groups of failed sagas, with whom the failed operations call."""

from __future__ import annotations

from saga_coordinator.catalog.runnable import RunnableDefinitions
from saga_coordinator.pb.saga.v1 import operator_service_pb2 as pb
from saga_coordinator.saga.definition.model import Operation
from saga_coordinator.saga.words.errors import InvalidDefinition, NotFound
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.failures import FailureGroup, FailureGroups
from saga_coordinator.wire.enumerations import OPERATION_NUMBERS
from saga_coordinator.wire.times import timestamp_of


class FailureViews:
    """Looks up in the definitions whom operations call."""

    def __init__(self, definitions: RunnableDefinitions) -> None:
        self._definitions = definitions

    async def message(self, namespace: Namespace, found: FailureGroups) -> pb.GroupFailuresResponse:
        """The groups in their order. Raises Unavailable when the database is away."""
        response = pb.GroupFailuresResponse(more_groups=found.has_more, at_least=not found.is_whole)
        for group in found.groups:
            called = await self._called(namespace, group)
            response.groups.append(
                pb.FailureGroup(
                    definition=group.definition,
                    step=group.step,
                    operation=OPERATION_NUMBERS[group.operation],
                    participant=called.participant if called else "",
                    method=called.method if called else "",
                    code=group.code,
                    fingerprint=group.fingerprint,
                    needs_attention=group.needs_attention,
                    count=group.count,
                    first_at=timestamp_of(group.first_at),
                    last_at=timestamp_of(group.last_at),
                    example_saga_id=group.example,
                )
            )
        return response

    async def _called(self, namespace: Namespace, group: FailureGroup) -> Operation | None:
        """The operation, if it calls a participant as far as the definition is known."""
        try:
            registered = await self._definitions.get(namespace, group.definition, group.version)
        except (NotFound, InvalidDefinition):
            return None
        if not registered.definition.has_step(group.step):
            return None
        step = registered.definition.step(group.step)
        called = step.action if group.operation is OperationKind.ACTION else step.compensation
        return called if isinstance(called, Operation) and not called.is_child else None
