"""What is in memory is answered from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proof.core.definitions import definition, step
from proof.core.story import Story, ok
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.views.saga_views import SagaViews
from tests.unit.views.test_messages import record


class _NotRead:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


async def test_answer_about_a_saga_in_memory_reads_no_log() -> None:
    story = Story(definition(step("reserve"), step("charge")))
    story.ends("reserve", ok({"id": 7}))
    unread: Any = _NotRead()
    views = SagaViews(unread, unread)
    for sequence in (1, story.state.sequence):
        message = await views.saga(replace(record(), sequence=sequence), (story.definition, story.state))
        assert message.sequence == story.state.sequence
        assert [each.name for each in message.steps] == ["reserve", "charge"]
        assert message.steps[0].output.struct_value["id"] == 7


async def test_what_the_database_knows_better_is_read() -> None:
    story = Story(definition(step("reserve")))
    unread: Any = _NotRead()
    for newer in (record(SagaStatus.COMPENSATING), replace(record(), sequence=9)):
        with pytest.raises(AssertionError, match="was asked for"):
            await SagaViews(unread, unread).saga(newer, (story.definition, story.state))
