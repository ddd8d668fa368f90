"""A task that workers give back unbegun is handed out again, and more rarely each time, because each time is two entries."""

from proof.core.definitions import definition, step
from proof.core.story import Story
from saga_coordinator.saga.machine.inputs import RoomFound
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import Cause, Held, Unknown

ACTION, COMPENSATION = OperationKind.ACTION, OperationKind.COMPENSATION
GIVEN_BACK = Held(Cause("UNAVAILABLE", "given back"), 0.1, was_given=True)


def pause_after(story: Story, held: Held = GIVEN_BACK) -> float:
    """How long the attempt waits after it has ended so."""
    story.ends("reserve", held)
    retry_at = story.state.step("reserve").retry_at
    assert retry_at is not None
    story.happens(RoomFound("reserve", ACTION))
    return round(retry_at - story.now, 3)


def test_each_time_in_a_row_it_waits_twice_as_long() -> None:
    story = Story(definition(step("reserve")))
    assert [pause_after(story) for _ in range(14)] == [
        *(round(0.1 * 2**n, 3) for n in range(12)),
        300.0,
        300.0,
    ]


def test_a_day_of_it_is_a_few_hundred_entries() -> None:
    story, waited = Story(definition(step("reserve"))), 0.0
    while waited < 86_400:
        waited += pause_after(story)
    assert story.state.sequence < 700


def test_the_count_begins_anew_when_anything_else_became_of_an_attempt() -> None:
    story = Story(definition(step("reserve")))
    assert [pause_after(story) for _ in range(3)] == [0.1, 0.2, 0.4]
    story.ends("reserve", Unknown(Cause("UNAVAILABLE", "not now")))
    story.timer_fires()
    assert pause_after(story) == 0.1


def test_what_was_given_back_of_an_action_does_not_put_its_compensation_off() -> None:
    story = Story(definition(step("reserve")))
    story.ends("reserve", Unknown(Cause("UNAVAILABLE", "not now")))
    story.timer_fires()
    assert [pause_after(story) for _ in range(3)] == [0.1, 0.2, 0.4]
    story.cancelled()
    story.ends("reserve", GIVEN_BACK)
    assert story.calls == ["reserve compensation 1"]
    story.ends("reserve", GIVEN_BACK, COMPENSATION)
    assert story.state.step("reserve").retry_at == story.now + 0.1


def test_what_only_had_no_room_is_looked_for_as_before() -> None:
    story = Story(definition(step("reserve")))
    no_room = Held(Cause("UNAVAILABLE", "no worker"), 6.0)
    assert [pause_after(story, no_room) for _ in range(3)] == [6.0, 6.0, 6.0]
