"""A child that a person abandons: its parent hears of it, also if the child's own message is lost, and waits for a person too."""

from __future__ import annotations

import pytest

from saga_coordinator.engine import children
from saga_coordinator.engine.runs import Run
from saga_coordinator.saga.machine.inputs import AbandonAsked
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.act import SubjectKind, Verb
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE
from tests.acts import an_act
from tests.eventually import eventually
from tests.integration.engine.conftest import Engine, a_definition, a_step
from tests.integration.engine.participants import COMPENSATION, Participants, refusing

CHILD = a_definition(a_step("pack", "inventory"), a_step("hand_over", "shipping"), name="parcel")
PARENT = a_definition(
    a_step("reserve", "inventory"), {"name": "parcel", "saga": {"definition": "parcel"}}, name="parent"
)


@pytest.mark.parametrize("message", ["comes", "is lost"])
async def test_the_parent_of_an_abandoned_child_waits_for_a_person_with_the_childs_effect_listed(
    engine: Engine, participants: Participants, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    await engine.register(CHILD)
    await engine.register(PARENT)
    participants.on("hand_over", refusing("no van"))
    participants.on("pack", refusing("the parcel is sealed"), COMPENSATION)
    saga_id = await engine.start("parent")

    async def child_is_parked() -> bool:
        child = await engine.coordinator.id_of(DEFAULT_NAMESPACE, f"{saga_id}/parcel/action")
        return child is not None and (await engine.saga(child)).status is SagaStatus.NEEDS_ATTENTION

    await eventually(child_is_parked, "the child to need a person")
    if message == "is lost":

        async def lose(self: children.Children, run: Run) -> None:
            pass

        monkeypatch.setattr(children.Children, "_tell_parent", lose)
    child = await engine.coordinator.id_of(DEFAULT_NAMESPACE, f"{saga_id}/parcel/action")
    assert child is not None
    act = an_act(Verb.ABANDON_SAGA, child, kind=SubjectKind.SAGA)
    assert (await engine.coordinator.ask(child, AbandonAsked(act))).is_applied

    await engine.reaches(saga_id, SagaStatus.NEEDS_ATTENTION)
    parent = await engine.saga(saga_id)
    assert parent.remaining == ("reserve", "parcel")
    assert parent.failure is not None
    assert (parent.failure.code, parent.failure.step) == ("CHILD_FAILED", "parcel")
