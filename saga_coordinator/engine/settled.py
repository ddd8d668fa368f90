"""Decides requests about settled sagas, which have no owner. A request may come too late, or make the saga go on."""

from __future__ import annotations

from saga_coordinator.engine.advance import Advance
from saga_coordinator.engine.drive import Parents
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.reading import fold_log
from saga_coordinator.engine.recording import act_record
from saga_coordinator.engine.runs import Run
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.saga.machine.answers import Answer
from saga_coordinator.saga.machine.decide import answer_by_status
from saga_coordinator.saga.machine.inputs import Asked
from saga_coordinator.saga.machine.transitions import SETTLED, SagaStatus
from saga_coordinator.saga.words.namespace import Namespace


class SettledSagas:
    """Decides requests about settled sagas."""

    def __init__(
        self,
        stores: Stores,
        advance: Advance,
        parents: Parents,
        wakeup: Wakeup,
    ) -> None:
        self._sagas = stores.sagas
        self._definitions = stores.definitions
        self._advance = advance
        self._parents = parents
        self._wakeup = wakeup

    async def ask(
        self, saga_id: str, namespace: Namespace, status: SagaStatus, asked: Asked
    ) -> tuple[Answer, Run | None]:
        """Returns the answer of a saga that has settled with `status`, and the saga after the decision if it was read for that.

        A late outcome is appended to the saga's log. If the saga goes on, it is queued for a coordinator with room.

        Raises:
            OwnershipLost: another coordinator wrote to the saga meanwhile. Ask again.
            Unavailable: the database is away.
        """
        answer = answer_by_status(status, asked)
        if answer is not None:
            if (record := act_record(asked, answer, status, status)) is not None:
                await self._advance.record(saga_id, record)
            return answer, None
        # The whole log is read. What a report tells may be new, repeated, contradicted or the evidence that a parked saga waited
        # for, and which of these it is depends on everything that the saga has been told.
        state = await fold_log(self._sagas, saga_id)
        registered = await self._definitions.get(namespace, state.definition, state.version)
        run = Run(saga_id, namespace, registered.definition, state)
        decision = (await self._advance.advance(run, [asked], may_call=False)).decisions[0]
        if run.state.status not in SETTLED:
            self._wakeup.look_now()
        elif run.state.status is not state.status:  # the saga had nothing more to do
            self._parents.child_settled(run)
        return decision.answer, run
