"""Adopts sagas that were claimed: it reads their logs, and lets them go on where the logs end."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.ports import Stores
from saga_coordinator.engine.reading import Folded, fold_logs
from saga_coordinator.engine.room import Room
from saga_coordinator.engine.runs import Origin, Run, Runs
from saga_coordinator.engine.wakeup import Wakeup
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.words.errors import NotFound, Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.records import Claim

ADOPTED_BYTES_AT_ONCE = 16 * 1024 * 1024
"""After so many bytes of logs were read, the sagas concerned go on before more logs are read.

In memory a log takes some ten times as much."""

_GOES_ON_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Adopting:
    """Takes claimed sagas into memory."""

    def __init__(
        self,
        stores: Stores,
        drive: Drive,
        runs: Runs,
        room: Room,
        wakeup: Wakeup,
    ) -> None:
        self._sagas = stores.sagas
        self._definitions = stores.definitions
        self._drive = drive
        self._runs = runs
        self._room = room
        self._wakeup = wakeup
        self._under_way: set[str] = set()

    @property
    def under_way(self) -> Collection[str]:
        """The sagas that are being adopted now."""
        return self._under_way

    async def adopt(self, claims: Sequence[Claim]) -> None:
        """Reads the logs of claimed sagas and goes on with them. Raises Unavailable."""
        if not claims:
            return
        _log.info(
            "sagas_claimed",
            sagas=len(claims),
            orphaned=sum(claim.previous_owner is not None for claim in claims),
        )
        busy = self._under_way | set(self._room.starting)
        adopting = [claim for claim in claims if claim.saga_id not in busy]
        self._under_way.update(claim.saga_id for claim in adopting)
        try:
            await self._adopt_all(adopting)
        except Unavailable:
            self._wakeup.reconcile_soon()  # the sagas are this coordinator's, and must not be forgotten
            raise
        finally:
            self._under_way.difference_update(claim.saga_id for claim in adopting)

    async def _adopt_all(self, claims: Sequence[Claim]) -> None:
        """Adopts sagas with short logs first, so that those with long logs do not delay them.

        Large sagas go on, most of them back to sleep, before more logs are read: many of them at once would take gigabytes.
        """
        by_id = {claim.saga_id: claim for claim in sorted(claims, key=lambda claim: claim.entries)}
        begun: list[asyncio.Future[Decision]] = []
        read_bytes = 0
        async for folded in fold_logs(self._sagas, list(by_id)):
            if read_bytes >= ADOPTED_BYTES_AT_ONCE and begun:
                await asyncio.wait(begun, timeout=_GOES_ON_SECONDS)
                begun, read_bytes = [], 0
            if (decided := await self._adopt_one(by_id[folded.saga_id], folded)) is not None:
                begun.append(decided)
            read_bytes += folded.size_bytes
            self._under_way.discard(folded.saga_id)

    async def _adopt_one(self, claim: Claim, folded: Folded) -> asyncio.Future[Decision] | None:
        """Returns the decision with which the saga goes on; None if it does not go on. Raises Unavailable."""
        try:
            if folded.error is not None:
                raise folded.error
            if (state := folded.state) is None:
                raise NotFound(Reason.NO_SUCH_SAGA, f"saga {claim.saga_id} has no log", saga_id=claim.saga_id)
            registered = await self._definitions.get(claim.namespace, state.definition, state.version)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - such as entries that only a newer version can read; the others are not to suffer
            _log.exception("saga_stuck", saga_id=claim.saga_id)
            self._runs.stick(claim.saga_id)
            return None
        self._room.left_to_others.adopted(registered.definition, asyncio.get_running_loop().time())
        origin = Origin(claim.start_key, claim.started_at)
        return self._drive.adopt(
            Run(claim.saga_id, claim.namespace, registered.definition, state, origin), claim.previous_owner
        )
