"""The context of a start accompanies every call of its saga, also after somebody else has taken the saga over."""

from dataclasses import replace

from proof.core.definitions import definition, step
from proof.core.story import NO, Story, ok
from saga_coordinator.saga.machine.decide import decide
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.inputs import StartRequested
from saga_coordinator.saga.machine.state import fold
from saga_coordinator.saga.machine.stored_entry import decode, encode

ORDER = definition(step("reserve"), step("charge"))
HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_headers_go_with_actions_and_compensations_and_survive_a_takeover() -> None:
    story = Story(ORDER)
    story.last = decide(ORDER, None, StartRequested("saga", 1, {}, {}, headers=HEADERS), 0.0, 0.0)
    story.log = list(story.last.entries)
    made = [*story.last.effects, *story.ends("reserve", ok()).effects]
    story.last = replace(story.last, state=fold("saga", [decode(encode(entry)) for entry in story.log]))
    made += story.adopted("another").effects
    story.ends("charge", NO)
    # The attempt that was lost may be in flight until its timeout, so the compensation is due later.
    made += story.timer_fires().effects
    calls = [effect for effect in made if isinstance(effect, Invoke)]
    assert [call.operation.value for call in calls] == ["action", "action", "action", "compensation"]
    assert all(call.headers == HEADERS for call in calls)
