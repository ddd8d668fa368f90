"""Keeps the sagas in this coordinator's memory: each is a `Run`, and `Runs` knows them all.

Only the methods of `Run` write its fields; every other module reads them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from saga_coordinator.engine.held import HeldSteps
from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.machine.effects import Decision
from saga_coordinator.saga.machine.inputs import Input
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.errors import OwnershipLost
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import Namespace

Posted = tuple[Input, asyncio.Future[Decision] | None]
"""An input, and the future that gets the decision about it, if somebody waits for that decision."""


@immutable
class Origin:
    """The origin of a saga for log lines: its start key, and its start in seconds since 1970."""

    start_key: str = ""
    started_at: float | None = None


NOWHERE = Origin()


class Run:
    """One saga in this coordinator's memory: its state, and the inputs that wait to be decided.

    `started_at` and `settled_at` are seconds since 1970 by the database's clock. Each is known only if this coordinator wrote the
    entries concerned.
    """

    __slots__ = (
        "_changed",
        "_inbox",
        "_settled",
        "_timer",
        "definition",
        "held",
        "inquiries",
        "is_advancing",
        "is_dropped",
        "namespace",
        "origin",
        "saga_id",
        "settled_at",
        "started_at",
        "state",
    )

    def __init__(
        self,
        saga_id: str,
        namespace: Namespace,
        definition: Definition,
        state: SagaState,
        origin: Origin = NOWHERE,
    ) -> None:
        self.saga_id = saga_id
        self.namespace = namespace
        self.definition = definition
        self.state = state
        self.origin = origin
        self.held = HeldSteps()
        self.inquiries = 0
        """The number of questions under way whose answers are inputs. The saga stays in memory until they are answered."""
        self.is_advancing = False
        self.is_dropped = False
        self.started_at: float | None = None
        self.settled_at: float | None = None
        self._inbox: deque[Posted] = deque()
        self._timer: asyncio.Handle | None = None
        self._settled: asyncio.Future[bool] | None = None
        self._changed: asyncio.Future[None] | None = None

    # What is committed.

    def started(self, start_key: str, recorded_at: float | None) -> None:
        """Notes that the saga's start is committed."""
        self.origin = Origin(start_key, recorded_at)
        self.started_at = recorded_at
        self.committed(recorded_at)

    def committed(self, recorded_at: float | None) -> None:
        """Notes when the entries were recorded that led to the present state."""
        self.settled_at = recorded_at if self.state.status in SETTLED else None

    def become(self, state: SagaState) -> None:
        """Takes the state that the decided inputs led to."""
        self.state = state

    # Its inputs.

    def post(self, given: Input, decided: asyncio.Future[Decision] | None = None) -> bool:
        """Adds an input. Returns True if nobody advances the saga yet. Then the caller has to begin."""
        self._inbox.append((given, decided))
        if self.is_advancing:
            return False
        self.is_advancing = True
        return True

    def take_posted(self) -> tuple[Posted, ...]:
        """Empties the inbox and returns its inputs. If there are none, or the saga was dropped, the advancing ends."""
        posted = () if self.is_dropped else tuple(self._inbox)
        if posted:
            self._inbox.clear()
        else:
            self.is_advancing = False
        return posted

    def put_back(self, rest: Sequence[Posted]) -> None:
        """Puts inputs that were not decided back in front of those that came meanwhile."""
        if self.is_dropped:
            self._refuse(rest)
        else:
            self._inbox.extendleft(reversed(rest))

    # What goes on beside its inputs.

    def set_timer(self, timer: asyncio.Handle | None) -> None:
        """Keeps the timer that brings the next input, and cancels the one before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def begin_inquiry(self) -> None:
        """Notes that a question is under way whose answer is an input."""
        self.inquiries += 1

    def end_inquiry(self) -> None:
        """Notes that such a question has been answered, or was given up."""
        self.inquiries -= 1

    @property
    def is_in_flight(self) -> bool:
        """Tells whether an attempt of the saga is under way."""
        return self.state.in_flight > 0

    # Who waits for it.

    def settling(self) -> asyncio.Future[bool]:
        """A future that is done once the saga leaves this memory. Its result is true if the saga had settled by then."""
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def changing(self) -> asyncio.Future[None]:
        """A future that is done as soon as something has been appended to the saga's log, or the saga leaves this memory."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def tell_watchers(self) -> None:
        """Wakes those who wait for a change."""
        if self._changed is not None:
            if not self._changed.done():
                self._changed.set_result(None)
            self._changed = None

    def drop(self) -> None:
        """Ends every wait for this run. The outcomes of attempts that are under way are ignored."""
        self.is_dropped = True
        self.tell_watchers()
        if self._timer is not None:
            self._timer.cancel()
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(self.state.status in SETTLED)
        self._refuse(self._inbox)
        self._inbox.clear()

    def _refuse(self, posted: Sequence[Posted]) -> None:
        for _, decided in posted:
            if decided is not None and not decided.done():
                decided.set_exception(OwnershipLost(f"saga {self.saga_id} was let go"))


class Runs:
    """The registry of runs: which sagas are in memory, how many of each definition, and which of them are stuck."""

    def __init__(self) -> None:
        self._by_id: dict[str, Run] = {}
        self._count_of: Counter[str] = Counter()
        self._stuck: list[str] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Run]:
        """Yields the runs that there are now. Runs may come and go meanwhile."""
        return iter(tuple(self._by_id.values()))

    def __contains__(self, saga_id: str) -> bool:
        return saga_id in self._by_id

    def get(self, saga_id: str) -> Run | None:
        """The run of a saga; None if the saga is not in this memory."""
        return self._by_id.get(saga_id)

    def count_of(self, definition: str) -> int:
        """The number of sagas of a definition that are in memory."""
        return self._count_of[definition]

    @property
    def definitions(self) -> frozenset[str]:
        """The definitions of which sagas have been in memory."""
        return frozenset(self._count_of)

    def keep(self, run: Run) -> None:
        """Takes a saga into memory."""
        self._by_id[run.saga_id] = run
        self._count_of[run.definition.name] += 1

    def drop(self, run: Run) -> None:
        """Lets go of a saga, and ends every wait for its run."""
        if self._by_id.get(run.saga_id) is run:
            del self._by_id[run.saga_id]
            self._count_of[run.definition.name] -= 1
        run.drop()

    def stick(self, saga_id: str) -> None:
        """Notes that a saga cannot go on here. It is handed on and tried again later."""
        self._stuck.append(saga_id)

    def take_stuck(self) -> list[str]:
        """Returns the sagas that got stuck since the last call."""
        stuck, self._stuck = self._stuck, []
        return stuck
