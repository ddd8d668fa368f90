"""An `act_id` names one act: it is refused for another one, which would be done without a record, or not at all."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest

from saga_coordinator.control.sagas import Demand, SagaActs
from saga_coordinator.saga.machine.inputs import PauseAsked, ResumeAsked
from saga_coordinator.saga.words.act import Verb
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from saga_coordinator.store.acts import ActRows
from tests.integration.engine.conftest import Engine, Query, a_definition, a_step

ANA = SimpleNamespace(principal="ana", namespace=DEFAULT_NAMESPACE)


async def test_an_act_id_that_names_another_act_is_refused(engine: Engine, query: Query) -> None:
    await engine.register(a_definition(a_step("reserve", "inventory"), a_step("ship", "shipping")))
    one, gate_of_one = await engine.halted_at("reserve")
    other, gate_of_other = await engine.halted_at("reserve")
    acts = SagaActs(engine.coordinator, ActRows(engine.database))
    act_id = str(uuid.uuid4())
    pause = Demand(one, Verb.PAUSE_SAGA, PauseAsked, act_id=act_id)

    assert (await acts.do(ANA, pause))[1].is_applied
    assert not (await acts.do(ANA, pause))[1].is_applied, "the same act, asked for again"
    for another in (
        Demand(other, Verb.PAUSE_SAGA, PauseAsked, act_id=act_id),
        Demand(one, Verb.RESUME_SAGA, ResumeAsked, act_id=act_id),
    ):
        with pytest.raises(InvalidRequest, match="another act, pause_saga of"):
            await acts.do(ANA, another)
    assert (await engine.coordinator.state_of(one)).hold is not None
    assert (await engine.coordinator.state_of(other)).hold is None
    recorded = await query("SELECT subject FROM saga.operator_acts WHERE result = 'done'")
    assert recorded == [(one,)]
    gate_of_one.open()
    gate_of_other.open()
