"""Tells in the log when sagas of a claim group wait for a coordinator and none of that group lives."""

from __future__ import annotations

import structlog

from saga_coordinator.engine.housekeeping.chores import Chore
from saga_coordinator.engine.ports import OwnershipStore

LOOK_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class StrandedGroups:
    """Remembers the stranded claim groups, so that each change is told once."""

    def __init__(self, ownership: OwnershipStore) -> None:
        self._ownership = ownership
        self._stranded: frozenset[str] = frozenset()

    @property
    def chore(self) -> Chore:
        return Chore("watching claim groups", LOOK_SECONDS, self.look)

    async def look(self) -> None:
        """Tells of each claim group that is stranded or served again since the last look. Raises Unavailable."""
        groups = await self._ownership.groups()
        stranded = {each.name: each.waiting for each in groups if each.waiting and not each.coordinators}
        for name in sorted(stranded.keys() - self._stranded):
            _log.warning("claim_group_without_coordinator", claim_group=name, sagas=stranded[name])
        for name in sorted(self._stranded - stranded.keys()):
            _log.info("claim_group_served_again", claim_group=name)
        self._stranded = frozenset(stranded)
