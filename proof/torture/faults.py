"""Breaks what the plan says when it says so, and sets up again what has fallen."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter

from proof.torture import commits
from proof.torture.crashing import CRASHED
from proof.torture.plan import Births, Blow, Kind, faults
from proof.torture.processes import Coordinator, Participant, World, end, is_serving, lines_of
from proof.torture.proxy import Proxy

SUPERVISION_SECONDS = 0.02
TROUBLED_MAX = (1, 1, 2)
"""Coordinators in trouble at once, by the luck of the draw: mostly somebody is there to take over."""
ARMED_MAX = 2
"""Coordinators at once that are about to kill themselves."""
POSTGRES_PAUSE_SECONDS = 10.0


class Nemesis:
    """Does the harm. `counts` is by kind, as the report shows it."""

    def __init__(self, world: World, *, every_seconds: float) -> None:
        self._world = world
        self._plan = faults(
            world.seed,
            every_seconds=every_seconds,
            coordinators=len(world.coordinators),
            participants=len(world.participants),
        )
        self._births = Births(world.seed)
        self._dice = random.Random(f"{world.seed} nemesis")
        self._harm: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._postgres_back_at = 0.0
        self._are_commits_failing = False
        self._is_over = False
        self._history = (world.folder / "faults.jsonl").open("a", encoding="utf-8")
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []

    async def run(self, seconds: float) -> None:
        """Harms for so long, then waits until the last harm is over, and sees that all coordinators and participants run."""
        world = self._world
        supervising = asyncio.create_task(self._supervise())
        try:
            give_up_at = time.monotonic() + seconds
            waiting: list[Blow] = []
            for fault in self._plan:
                await asyncio.sleep(min(fault.after_seconds, max(0.0, give_up_at - time.monotonic())))
                if time.monotonic() >= give_up_at:
                    break
                # What cannot be done now is done as soon as it can be.
                waiting.append(fault)
                if possible := next((each for each in waiting if self._is_possible(each)), None):
                    waiting.remove(possible)
                    self._begin(possible)
                if supervising.done():
                    break
            self._is_over = True
            await asyncio.gather(*self._harm)
            world.disarm()
            for coordinator in world.coordinators:
                for proxy in coordinator.proxies:
                    proxy.heal()
            await self._all_serve(supervising)
            self._count_lost_answers()
        finally:
            supervising.cancel()
            results = await asyncio.gather(supervising, return_exceptions=True)
            self._history.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _all_serve(self, supervising: asyncio.Task[None]) -> None:
        """Returns once every coordinator's place is taken by one that serves, or there is nobody to see to it."""
        while not supervising.done():
            if all(each.is_alive for each in self._world.coordinators) and not self._watching:
                return
            await asyncio.wait([supervising, *self._watching], timeout=SUPERVISION_SECONDS)

    def _count_lost_answers(self) -> None:
        """Those that were really lost, rather than how often it was tried."""
        lost = self.counts
        lost[Kind.DATABASE_ANSWER_LOST] = sum(
            each.to_database.answers_lost for each in self._world.coordinators
        )
        lost[Kind.CALLS_ANSWER_LOST] = sum(
            proxy.answers_lost for each in self._world.coordinators for proxy in each.to_participants.values()
        )

    def _is_possible(self, fault: Blow) -> bool:
        world = self._world
        coordinator = world.coordinators[fault.coordinator]
        participant = list(world.participants.values())[fault.participant]
        match fault.kind:
            case Kind.KILL_COORDINATOR | Kind.STOP_COORDINATOR | Kind.LEAVE_COORDINATOR:
                return self._may_trouble(coordinator, fault.size)
            case Kind.POSTGRES_FAST | Kind.POSTGRES_IMMEDIATE:
                return time.monotonic() > self._postgres_back_at
            case Kind.COMMITS_FAIL:
                return not self._are_commits_failing
            case Kind.KILL_PARTICIPANT | Kind.STOP_PARTICIPANT | Kind.FLAP_PARTICIPANT:
                return participant.popen is not None and participant.popen.poll() is None
            case Kind.DATABASE_DELAY | Kind.DATABASE_HOLE:
                return self._may_trouble(coordinator, fault.size)
            case _:
                return True

    def _may_trouble(self, coordinator: Coordinator, draw: float) -> bool:
        troubled = sum(each.is_troubled for each in self._world.coordinators)
        return (
            not coordinator.is_troubled
            and not coordinator.is_leaving
            and troubled < TROUBLED_MAX[int(draw * len(TROUBLED_MAX))]
        )

    def _begin(self, fault: Blow) -> None:
        self._note(fault.kind, coordinator=fault.coordinator + 1, participant=fault.participant)
        task = asyncio.create_task(self._do(fault))
        self._harm.add(task)
        task.add_done_callback(self._harm.discard)

    def _note(self, kind: str, **what: object) -> None:
        self.counts[kind] += 1
        self._history.write(json.dumps({"at": time.time(), "kind": kind, **what}) + "\n")
        self._history.flush()

    async def _do(self, fault: Blow) -> None:
        coordinator = self._world.coordinators[fault.coordinator]
        participant = list(self._world.participants.values())[fault.participant]
        match fault.kind:
            case Kind.KILL_COORDINATOR:
                coordinator.kill()
            case Kind.STOP_COORDINATOR:
                seconds = 1.5 + self._world.lease_seconds * (0.7 + fault.seconds)
                await self._stop_coordinator(coordinator, seconds)
            case Kind.LEAVE_COORDINATOR:
                await self._leave(coordinator)
            case Kind.KILL_PARTICIPANT:
                participant.running.kill()
            case Kind.STOP_PARTICIPANT:
                await _stop_participant(participant, 0.5 + 3 * fault.seconds)
            case Kind.FLAP_PARTICIPANT:
                participant.running.send_signal(signal.SIGUSR1)
            case Kind.POSTGRES_FAST | Kind.POSTGRES_IMMEDIATE:
                is_fast = fault.kind is Kind.POSTGRES_FAST
                await self._restart_postgres(is_fast=is_fast, away=2 * fault.seconds**2)
            case Kind.COMMITS_FAIL:
                await self._fail_commits(fault.size, 0.2 + 3 * fault.seconds)
            case Kind.DATABASE_CUT | Kind.DATABASE_DELAY | Kind.DATABASE_HOLE | Kind.DATABASE_ANSWER_LOST:
                await self._harm_database(coordinator, fault)
            case _:
                await _harm_calls(coordinator.to_participants[participant.name], fault)

    async def _harm_database(self, coordinator: Coordinator, fault: Blow) -> None:
        """Lasting harm is mostly within what a lease endures, and sometimes beyond it."""
        proxy, lease_seconds = coordinator.to_database, self._world.lease_seconds
        match fault.kind:
            case Kind.DATABASE_CUT:
                proxy.cut()
            case Kind.DATABASE_ANSWER_LOST:
                await _lose_answers(proxy, 1 + int(3 * fault.size), 2.0)
            case Kind.DATABASE_DELAY:
                seconds = 1 + 3 * fault.seconds
                with _trouble(coordinator, seconds + lease_seconds):
                    await _delay(proxy, 0.02 + lease_seconds * fault.size**3, seconds)
            case _:
                seconds = 1 + 1.5 * lease_seconds * fault.seconds
                with _trouble(coordinator, seconds + lease_seconds):
                    await _silence(proxy, seconds, is_cut=fault.size < 0.5)

    async def _stop_coordinator(self, coordinator: Coordinator, seconds: float) -> None:
        life = coordinator.life
        began_at = time.time()
        life.popen.send_signal(signal.SIGSTOP)
        with _trouble(coordinator, seconds + 1):
            await asyncio.sleep(seconds)
        life.stops.append((began_at, time.time()))
        life.popen.send_signal(signal.SIGCONT)

    async def _leave(self, coordinator: Coordinator) -> None:
        """A clean stop, and another process in its place."""
        coordinator.is_leaving = True
        began_at = time.time()
        if not await asyncio.to_thread(end, coordinator.life.popen):
            self.complaints.append(f"{coordinator.name} did not end when told to; see {coordinator.life.log}")
        coordinator.life.died_at = time.time()
        coordinator.troubles.append([began_at, float("inf")])
        self._give_birth(coordinator)

    async def _restart_postgres(self, *, is_fast: bool, away: float) -> None:
        postgres = self._world.postgres
        self._postgres_back_at = float("inf")
        outage = [time.time(), float("inf")]
        self._world.outages.append(outage)
        await asyncio.to_thread(postgres.stop, "fast" if is_fast else "immediate")
        await asyncio.sleep(away)
        await asyncio.to_thread(postgres.start)
        outage[1] = time.time()
        self._postgres_back_at = time.monotonic() + POSTGRES_PAUSE_SECONDS

    async def _fail_commits(self, size: float, seconds: float) -> None:
        """Some of all coordinators' commits fail for so long; none does any more once Postgres has heard that it is over."""
        url = self._world.database_url
        self._are_commits_failing = True
        outage = [time.time(), float("inf")]
        self._world.outages.append(outage)
        if await asyncio.to_thread(commits.begin, url, size):
            await asyncio.sleep(seconds)
        while not await asyncio.to_thread(commits.end, url):  # noqa: ASYNC110  # Postgres tells nobody that it is back
            await asyncio.sleep(5 * SUPERVISION_SECONDS)
        outage[1] = time.time()
        self._are_commits_failing = False

    async def _supervise(self) -> None:
        """Notices who has ended, and starts another in its place, at once or after a while."""
        while True:
            now = time.time()
            for coordinator in self._world.coordinators:
                if coordinator.is_alive or coordinator.is_leaving:
                    continue
                if not coordinator.down_until:
                    self._notice_death(coordinator, now)
                if now >= coordinator.down_until or self._is_over:
                    self._give_birth(coordinator)
            for participant in self._world.participants.values():
                if participant.popen is not None and participant.popen.poll() is not None:
                    if not participant.down_until:
                        participant.down_until = now + self._pause(1.5)
                    if now >= participant.down_until or self._is_over:
                        participant.down_until = 0.0
                        self._world.start_participant(participant)
            await asyncio.sleep(SUPERVISION_SECONDS)

    def _notice_death(self, coordinator: Coordinator, now: float) -> None:
        life = coordinator.life
        if not life.was_killed:
            crashed = [line for line in lines_of(life.log) if line["event"] == CRASHED]
            life.died_at = crashed[0]["at"] if crashed else now
            if crashed:
                self._note(f"crash {crashed[0]['point']}", coordinator=coordinator.number)
            else:
                self._complain_of_end(coordinator)
        assert life.died_at is not None
        coordinator.troubles.append([life.died_at, float("inf")])
        coordinator.down_until = now + self._pause(2.5)

    def _complain_of_end(self, coordinator: Coordinator) -> None:
        """It ended by itself. It may, when Postgres goes away while it starts: whoever runs it starts it again."""
        life = coordinator.life
        lines = lines_of(life.log)
        if any(line["event"] == "serving" for line in lines) or "database" not in str(lines[-1:]):
            code = life.popen.returncode
            self.complaints.append(f"{coordinator.name} ended by itself with code {code}; see {life.log}")

    def _give_birth(self, coordinator: Coordinator) -> None:
        coordinator.down_until = 0.0
        life = coordinator.life
        reached = any(line["event"] == CRASHED for line in lines_of(life.log))
        self._births.ended(life.crash_at, is_reached=reached)
        if self._is_over:
            coordinator.start()
        else:
            armed = sum(each.is_alive and bool(each.life.crash_at) for each in self._world.coordinators)
            birth = self._births.next(may_crash=armed < ARMED_MAX)
            coordinator.start(birth.crash_at, birth.passage, birth.timezone, birth.shift_seconds)
            if birth.timezone or birth.shift_seconds:
                self._note(
                    "a wrong clock or time zone", coordinator=coordinator.number, clock=coordinator.life.clock
                )
        task = asyncio.create_task(_watch_birth(coordinator))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def _pause(self, seconds: float) -> float:
        return self._dice.choice((0.0, self._dice.uniform(0, seconds)))


async def _watch_birth(coordinator: Coordinator) -> None:
    """Ends the trouble of a coordinator's place once the new process serves."""
    life = coordinator.life
    while life.popen.poll() is None:
        if await is_serving(coordinator.address):
            life.serving_at = time.time()
            for trouble in coordinator.troubles:
                if trouble[1] == float("inf") and trouble[0] <= life.began_at + 1:
                    trouble[1] = life.serving_at
            return
        await asyncio.sleep(5 * SUPERVISION_SECONDS)


class _trouble:  # noqa: N801  # reads as the function that it is
    """Notes that the coordinator cannot be counted on: while the block runs, and until `seconds` from its beginning."""

    def __init__(self, coordinator: Coordinator, seconds: float) -> None:
        self._interval = [time.time(), time.time() + seconds]
        coordinator.troubles.append(self._interval)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._interval[1] = max(self._interval[1], time.time())


async def _stop_participant(participant: Participant, seconds: float) -> None:
    popen = participant.running
    popen.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    popen.send_signal(signal.SIGCONT)


async def _harm_calls(proxy: Proxy, fault: Blow) -> None:
    match fault.kind:
        case Kind.CALLS_CUT:
            proxy.cut()
        case Kind.CALLS_ANSWER_LOST:
            await _lose_answers(proxy, 1 + int(3 * fault.size), 2.0)
        case Kind.CALLS_DELAY:
            await _delay(proxy, 0.05 + 1.5 * fault.size**2, 0.5 + 3 * fault.seconds)
        case _:
            await _silence(proxy, 0.5 + 3 * fault.seconds, is_cut=fault.size < 0.5)


async def _delay(proxy: Proxy, delay_seconds: float, seconds: float) -> None:
    proxy.delay_seconds = delay_seconds
    await asyncio.sleep(seconds)
    proxy.delay_seconds = 0.0


async def _silence(proxy: Proxy, seconds: float, *, is_cut: bool) -> None:
    """Passes nothing on for so long; then what was held back arrives after all, or is lost with its connection."""
    proxy.is_hole = True
    await asyncio.sleep(seconds)
    if is_cut:
        proxy.cut()
    proxy.heal()


async def _lose_answers(proxy: Proxy, count: int, seconds: float) -> None:
    """Loses so many answers, if as many are given within `seconds`."""
    proxy.answers_to_lose = count
    give_up_at = time.monotonic() + seconds
    while proxy.answers_to_lose and time.monotonic() < give_up_at:  # noqa: ASYNC110  # connections tell nobody
        await asyncio.sleep(SUPERVISION_SECONDS)
    proxy.answers_to_lose = 0
