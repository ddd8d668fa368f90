"""Leaves sagas for a while to other coordinators of the claim group, if their definitions call participants not known here."""

from __future__ import annotations

from saga_coordinator.engine.ports import Directory
from saga_coordinator.saga.definition.model import Definition

LEFT_SECONDS = 5.0
"""The seconds for which such sagas are left to others. Then they are claimed here: maybe nobody knows the participant (P1)."""


class LeftToOthers:
    """The definitions of which a saga was claimed here although the directory lacks one of their participants."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._participants: dict[str, frozenset[str]] = {}
        self._until: dict[str, float] = {}
        """For each definition: its participants, and the instant until which its sagas are left, by the event loop's clock."""

    def adopted(self, definition: Definition, now: float) -> None:
        """Notes that a saga of the definition was claimed here."""
        if not definition.participants <= self._directory.known:
            self._participants[definition.name] = definition.participants
            self._until.setdefault(definition.name, now + LEFT_SECONDS)

    def names(self, now: float) -> list[str]:
        """The definitions whose sagas may not be claimed here now."""
        known = self._directory.known
        for name in [name for name, participants in self._participants.items() if participants <= known]:
            del self._participants[name], self._until[name]
        return [name for name, until in self._until.items() if until > now]

    def claimed_all(self, now: float) -> None:
        """Notes that all due sagas were claimed, except those of the definitions in `names`.

        Sagas of the definitions that are not in `names` are left to others again.
        """
        for name, until in self._until.items():
            if until <= now:
                self._until[name] = now + LEFT_SECONDS
