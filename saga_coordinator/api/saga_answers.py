"""Writes sagas into the answers of RPCs, from memory where that is possible."""

from __future__ import annotations

from saga_coordinator.engine.coordinator import Coordinator
from saga_coordinator.engine.runs import Run
from saga_coordinator.pb.saga.v1 import saga_pb2
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.sagas import SagaRows
from saga_coordinator.views.saga import run_message
from saga_coordinator.views.saga_views import SagaViews
from saga_coordinator.wire.conversion import convert, size_of


class SagaAnswers:
    """Sagas with their steps, as they are at the moment of the answer."""

    def __init__(self, coordinator: Coordinator, views: SagaViews, sagas: SagaRows) -> None:
        self._coordinator = coordinator
        self._views = views
        self._sagas = sagas

    async def write(
        self, into: saga_pb2.Saga, namespace: Namespace, saga_id: str, run: Run | None = None
    ) -> None:
        """Writes the saga into an answer. If `run` is given, as much as possible comes from its memory.

        Raises:
            NotFound: the namespace has no such saga.
            Unavailable: the saga has to be read, and the database is away.
        """
        if run is not None:
            size = size_of([run.state.input, *(step.output for step in run.state.steps.values())])
            if await convert(size, run_message, run, self._coordinator.coordinator_id, into) is not None:
                return
        record = await self._sagas.get(namespace, saga_id)
        known = self._coordinator.known(saga_id) if run is None else (run.definition, run.state)
        await self._views.saga(record, known, into)
