"""Sagas that call a participant which is not known here: others of the claim group come first, but none is left to nobody."""

from __future__ import annotations

import dataclasses

from proof.core.definitions import definition, step
from saga_coordinator.engine.left_to_others import LEFT_SECONDS, LeftToOthers

ORDER = definition(step("pay"))
SOON = LEFT_SECONDS / 2


@dataclasses.dataclass
class DirectoryOfTheTests:
    known: frozenset[str]

    async def look_now(self) -> None:
        """Learns nothing."""


def test_p1_a_definition_is_left_for_a_while_after_each_claim() -> None:
    left = LeftToOthers(DirectoryOfTheTests(frozenset({"other"})))
    assert left.names(0.0) == [], "nothing is known of it before the first claim"
    left.adopted(ORDER, 0.0)
    assert left.names(SOON) == ["order"]
    left.claimed_all(SOON)
    left.adopted(ORDER, SOON)  # as one that somebody asked something of
    assert left.names(LEFT_SECONDS) == [], "it is not put off again before it was claimed"
    assert left.names(2 * LEFT_SECONDS) == [], "however long that takes"
    left.claimed_all(2 * LEFT_SECONDS)
    assert left.names(2 * LEFT_SECONDS + SOON) == ["order"]
    assert left.names(3 * LEFT_SECONDS) == []


def test_a_definition_whose_participants_are_known_is_left_to_nobody() -> None:
    directory = DirectoryOfTheTests(frozenset({"p", "other"}))
    left = LeftToOthers(directory)
    left.adopted(ORDER, 0.0)
    assert left.names(0.0) == []
    directory.known = frozenset({"other"})
    left.adopted(ORDER, 0.0)
    assert left.names(0.0) == ["order"]
    directory.known = frozenset({"p"})
    assert left.names(0.0) == [], "it was put into the directory meanwhile"
