"""What runs in the background: who hears when it fails, and what health is told."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from saga_coordinator import lifecycle
from saga_coordinator.lifecycle import Background, Kept, Service, Services, Together, daemon
from tests.eventually import eventually
from tests.parsed import modules


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RESTART_SECONDS", (0.001, 0.01))


class Loop:
    """One that fails as often as it is told, each time before it has turned."""

    def __init__(self, *failures: BaseException) -> None:
        self._failures = list(failures)
        self.rounds = 0
        self.may_turn = asyncio.Event()

    async def work(self, kept: Kept) -> None:
        self.rounds += 1
        if self._failures:
            raise self._failures.pop(0)
        await self.may_turn.wait()
        kept.turned()
        await asyncio.Event().wait()


async def test_a_loop_that_fails_is_logged_and_begun_again() -> None:
    background, loop = Background(), Loop(RuntimeError("first"), OSError("second"))
    with capture_logs() as logs:
        background.keep("the loop", loop.work)
        await eventually(lambda: loop.rounds == 3, "the third beginning")
    assert [(line["event"], line["task"], line["failures"]) for line in logs] == [
        ("background_failed", "the loop", 1),
        ("background_failed", "the loop", 2),
    ]
    await background.stop()


async def test_a_loop_that_failed_is_a_problem_until_it_has_turned() -> None:
    background, loop = Background(), Loop(RuntimeError("no such\ntable"))
    kept = background.keep("the loop", loop.work)
    assert list(background.problems) == []
    await eventually(lambda: loop.rounds == 2, "the second beginning")
    assert list(background.problems) == ["the loop failed 1 times in a row: no such table"]
    loop.may_turn.set()
    await eventually(lambda: kept.problem is None, "the loop to turn")
    await background.stop()


async def test_a_loop_that_has_run_for_a_while_since_it_failed_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one that waits for something that seldom comes, no turn tells."""
    background, loop = Background(), Loop(RuntimeError("once"))
    kept = background.keep("the loop", loop.work)
    await eventually(lambda: loop.rounds == 2, "the second beginning")
    assert list(background.problems)
    passed = kept._clock() + lifecycle.SETTLED_SECONDS + 1
    monkeypatch.setattr(kept, "_clock", lambda: passed)
    assert not list(background.problems)
    await background.stop()


async def test_a_cancellation_of_what_it_awaits_does_not_end_a_loop() -> None:
    background, loop = Background(), Loop(asyncio.CancelledError())
    kept = background.keep("the loop", loop.work)
    await eventually(lambda: loop.rounds == 2, "the second beginning")
    await background.stop()
    assert kept.task is not None
    assert kept.task.cancelled()


async def test_a_loop_that_ends_by_itself_is_a_problem() -> None:
    async def work(kept: Kept) -> None:
        return None

    background = Background()
    background.keep("the loop", work)
    await eventually(lambda: list(background.problems) == ["the loop has ended"], "the end to be seen")


async def test_a_round_that_takes_too_long_is_a_problem_and_a_rest_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    background, loop = Background(), Loop()
    kept = background.keep("the loop", loop.work, turn_seconds_max=30.0)
    now = kept._clock()
    monkeypatch.setattr(kept, "_clock", lambda: now + 30.2)
    assert list(background.problems) == ["the loop has not turned for 30 s"]
    kept.rests()
    assert not list(background.problems)
    kept.begins()
    monkeypatch.setattr(kept, "_clock", lambda: now + 61.4)
    assert list(background.problems) == ["the loop has not turned for 31 s"]
    kept.turned()
    assert not list(background.problems)
    await background.stop()


async def test_a_failure_of_what_nobody_awaits_is_logged() -> None:
    async def work() -> None:
        raise RuntimeError("unheard")

    background = Background()
    with capture_logs() as logs:
        background.spawn("a message", work())
        assert len(background) == 1
        await background.finish()
    assert [(line["event"], line["task"], str(line["exc_info"])) for line in logs] == [
        ("background_failed", "a message", "unheard")
    ]


def test_a_failure_of_a_thread_is_logged() -> None:
    def work() -> None:
        raise SystemExit(3)

    with capture_logs() as logs:
        daemon("the thread", work).join()
    assert [(line["event"], line["task"]) for line in logs] == [("background_failed", "the thread")]


async def test_a_task_that_does_not_end_is_left_behind_by_a_stop() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        try:
            await may_end.wait()
        except asyncio.CancelledError:
            await may_end.wait()

    background = Background()
    task = background.begin("deaf", work())
    await asyncio.sleep(0)
    await background.stop(0.01)
    assert not task.done()
    may_end.set()
    await task


# Services.


class Part(Service):
    """Writes down what it is told; fails to start or to stop if it is told to."""

    def __init__(self, name: str, told: list[str], *failing: str) -> None:
        self._name = name
        self._told = told
        self._failing = failing

    async def start(self) -> None:
        await self._do("start")

    async def stop(self, grace_seconds: float = 0.0) -> None:
        await self._do("stop")

    async def _do(self, what: str) -> None:
        await asyncio.sleep(0)
        self._told.append(f"{what} {self._name}")
        if what in self._failing:
            raise RuntimeError(f"{self._name} cannot {what}")


async def test_services_stop_in_the_reverse_order_also_when_some_fail_to() -> None:
    told: list[str] = []
    services = Services(Part("a", told), Part("b", told, "stop"), Part("c", told, "stop"))
    await services.start()
    with pytest.raises(RuntimeError, match="c cannot stop"):
        await services.stop()
    assert told == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


async def test_after_a_service_that_cannot_start_none_is_started_and_all_are_stopped() -> None:
    told: list[str] = []
    services = Services(Part("a", told), Part("b", told, "start"), Part("c", told))
    with pytest.raises(RuntimeError, match="b cannot start"):
        await services.start()
    await services.stop()
    assert told == ["start a", "start b", "stop c", "stop b", "stop a"]


async def test_services_that_need_each_other_stop_at_the_same_time() -> None:
    told: list[str] = []
    first, second = Part("a", told, "stop"), Part("b", told)
    together = Together(first, second)
    await together.start()
    with pytest.raises(RuntimeError, match="a cannot stop"):
        await together.stop()
    assert told == ["start a", "start b", "stop a", "stop b"]


async def test_services_share_the_grace() -> None:
    graces: list[float] = []

    class Slow(Part):
        async def stop(self, grace_seconds: float = 0.0) -> None:
            graces.append(grace_seconds)
            await asyncio.sleep(0.01)

    await Services(Slow("a", []), Slow("b", [])).stop(60.0)
    assert graces[0] > graces[1] > 0.0


# Where tasks and threads may be made.

MAKERS = {
    "create_task",
    "ensure_future",
    "Thread",
    "ThreadPoolExecutor",
    "run_in_executor",
    "to_thread",
    "TaskGroup",
    "run_coroutine_threadsafe",
}


def made_in(module: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the name of everything by which the module makes a task or a thread by itself."""
    for node in ast.walk(module):
        match node:
            case ast.Attribute(attr=name) | ast.alias(name=name) if name in MAKERS:
                yield node.lineno, name
            case _:
                pass


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.create_task(work())",
        "asyncio.get_running_loop().create_task(work())",
        "keep = asyncio.ensure_future",
        "asyncio.to_thread(work)",
        "loop.run_in_executor(None, work)",
        "from asyncio import create_task",
        "threading.Thread(target=work).start()",
    ],
)
def test_a_task_of_ones_own_would_be_found(source: str) -> None:
    assert list(made_in(ast.parse(source)))


def test_tasks_and_threads_are_made_by_lifecycle_alone() -> None:
    found = [
        f"{place}:{line}: {name}"
        for place, module in modules().items()
        if place != "lifecycle.py"
        for line, name in made_in(module)
    ]
    assert len(modules()) > 100
    assert found == []


def test_what_is_gathered_is_heard() -> None:
    """`gather` is the one other way to begin coroutines: whoever calls it awaits it at once."""
    calls: list[str] = []
    check: Callable[[ast.AST], bool] = lambda node: (  # noqa: E731
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "gather"
    )
    for place, module in modules().items():
        awaited = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Await)}
        calls += [
            f"{place}:{node.lineno}"  # type: ignore[attr-defined]
            for node in ast.walk(module)
            if check(node) and id(node) not in awaited
        ]
    assert calls == []
