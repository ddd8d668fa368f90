"""Forgets what has grown old: coordinators that ended long ago, letters that nobody came back for, and events of long ago."""

from __future__ import annotations

from saga_coordinator.engine.housekeeping.chores import Chore
from saga_coordinator.engine.ports import Stores

FORGET_SECONDS = 60.0


def forgetting(stores: Stores) -> list[Chore]:
    """One chore for each kind of thing, so that a failure with one kind keeps no other from being forgotten."""
    return [
        Chore("forgetting coordinators", FORGET_SECONDS, stores.ownership.tidy),
        Chore("forgetting letters", FORGET_SECONDS, stores.mail.delete_abandoned),
        Chore("forgetting events", FORGET_SECONDS, stores.events.tidy),
    ]
