"""What owners of other versions say is understood, and what is said to them is what they know."""

import pytest

from saga_coordinator.engine.mail import Answer, decode_answer, encode_answer
from saga_coordinator.saga.machine.effects import HeartbeatTaken, NotApplied
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.reasons import Reason

KNOWN_TO_0_1_0 = {"REPEATED", "LATE", "EARLY", "OTHER_ATTEMPT"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(None, True),
        Answer(Refusal(Reason.NO_SUCH_STEP, "no such step"), False),
        Answer(None, True, heartbeat=HeartbeatTaken(2.0, 0.5)),
        *(Answer(None, False, because) for because in NotApplied),
    ],
)
def test_an_answer_is_read_as_it_was_written(answer: Answer) -> None:
    body = encode_answer(answer)
    assert decode_answer(body) == answer
    assert body["refusal"] == (str(answer.refusal) if answer.refusal else None)
    assert body.get("because", "LATE") in KNOWN_TO_0_1_0


@pytest.mark.parametrize("more", [{}, {"reason": "NOT_KNOWN_YET"}])
def test_a_refusal_of_another_version_keeps_its_words(more: dict[str, str]) -> None:
    answer = decode_answer({"refusal": "the saga is over", "is_applied": True, **more})
    assert answer.refusal == Refusal(Reason.OWNER_TOO_OLD, "the saga is over")
