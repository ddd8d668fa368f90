"""Who gets which task, whatever workers do and in whichever order: the state behind the streams, without any network."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from saga_coordinator.participants.workers.assignment import Assignment
from saga_coordinator.participants.workers.pool import Pool
from saga_coordinator.participants.workers.stream import BATCH_BYTES_MAX, Greeting, Stream
from saga_coordinator.participants.workers.tasks import written
from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task, WorkResponse
from saga_coordinator.saga.words.outcome import Cause, CauseCode, Held, Outcome, Refused, Succeeded, Unknown

METHODS = ("charge", "refund")


class Desk:
    """A pool with its streams and tasks; nothing is sent until `flush`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.changes = 0
        self.pool = Pool("payments", self._changed)
        self.streams: list[Stream] = []
        self.assignments: list[Assignment] = []
        self.sent: Counter[str] = Counter()
        self.cut: list[Stream] = []
        self._waiting: list[Stream] = []

    def _changed(self) -> None:
        self.changes += 1

    def connect(
        self, tasks_at_once: int, methods: frozenset[str] = frozenset(), bytes_max: int = 4 << 20
    ) -> Stream:
        greeting = Greeting(
            "payments", methods, tasks_at_once, f"worker {len(self.streams)}", "", message_bytes_max=bytes_max
        )
        stream = Stream(self.pool, greeting, self._waiting.append, lambda _: self.cut.append(stream), 0.0)
        stream.enter()
        self.streams.append(stream)
        return stream

    def put(self, method: str = "charge", size: int = 0, ends_at: float = 10.0) -> Assignment:
        task = Task(idempotency_key=f"key {len(self.assignments)}", method=method, step="x" * size)
        outcome: asyncio.Future[Outcome] = self.loop.create_future()
        self.assignments.append(Assignment(task, written(task), outcome, ends_at))
        self.pool.put(self.assignments[-1])
        return self.assignments[-1]

    def flush(self) -> list[tuple[Stream, WorkResponse]]:
        """Sends what there is to send, a message of each worker in turn; returns every message."""
        messages = []
        while self._waiting:
            stream = self._waiting.pop(0)
            had = len(stream.given)
            if message := stream.next_message(1.0):
                messages.append((stream, WorkResponse.FromString(message)))
                self.sent.update(task.idempotency_key for task in messages[-1][1].tasks)
                assert len(stream.given) <= max(had, stream.credits)
                self._waiting.append(stream)
        return messages

    def close(self) -> None:
        self.loop.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    fresh = Desk()
    yield fresh
    fresh.close()


def test_no_message_is_larger_than_its_worker_takes(desk: Desk) -> None:
    """It would end the stream, with everything that the worker has."""
    stream = desk.connect(100, bytes_max=100_000)
    for size in (40_000, 40_000, 40_000, 99_000, 10, 99_000):
        desk.put(size=size)
    stream.say(WorkResponse(heartbeat=True))
    for task_id in range(1000, 2000):
        stream.reject(task_id, "INVALID_ARGUMENT", "x" * 1000)
    messages = [message for _, message in desk.flush()]
    assert max(message.ByteSize() for message in messages) <= 100_000
    assert sum(len(message.rejections) for message in messages) == 1000
    assert desk.sent == Counter(assignment.task.idempotency_key for assignment in desk.assignments)


def test_a_task_that_is_too_large_for_its_worker_fails_alone_and_for_certain(desk: Desk) -> None:
    stream = desk.connect(1, bytes_max=100_000)
    too_large, next_one = desk.put(size=100_001), desk.put()
    ((_, message),) = desk.flush()
    assert [task.idempotency_key for task in message.tasks] == [next_one.task.idempotency_key]
    outcome = too_large.outcome.result()
    assert isinstance(outcome, Refused), "it was not sent, and is not tried again"
    assert outcome.cause.code == CauseCode.INPUT_INVALID
    assert "takes at most 100000" in outcome.cause.message
    assert stream.given == {1: next_one}


def test_what_is_there_goes_in_one_message(desk: Desk) -> None:
    stream = desk.connect(10)
    for _ in range(3):
        desk.put()
    ((to, message),) = desk.flush()
    assert to is stream
    assert [(task.task_id, task.idempotency_key) for task in message.tasks] == [
        (1, "key 0"),
        (2, "key 1"),
        (3, "key 2"),
    ]
    assert [task.timeout.seconds for task in message.tasks] == [9, 9, 9], "what is left of the ten"


def test_a_message_is_closed_once_it_is_large(desk: Desk) -> None:
    desk.connect(10)
    for _ in range(3):
        desk.put(size=BATCH_BYTES_MAX // 2 + 1)
    assert [len(message.tasks) for _, message in desk.flush()] == [2, 1]


def test_p4_a_task_whose_time_has_passed_is_not_handed_out(desk: Desk) -> None:
    """The process stood still, so that no timer has taken it out of the queue."""
    worker = desk.connect(3)
    desk.put(ends_at=1.0)
    timely = desk.put(ends_at=1.5)
    ((_, message),) = desk.flush()
    assert [task.idempotency_key for task in message.tasks] == [timely.task.idempotency_key]
    assert list(worker.given.values()) == [timely]


def test_p2_a_task_that_was_told_to_be_held_is_not_handed_out(desk: Desk) -> None:
    """Whoever waited has not yet taken it out of the queue; nobody would undo what is done of it."""
    desk.put().settle(Held(Cause("UNAVAILABLE", "no worker"), 6.0))
    worker = desk.connect(3)
    assert desk.flush() == []
    assert worker.given == {}


def test_idle_workers_share_what_comes_at_once(desk: Desk) -> None:
    for _ in range(4):
        desk.connect(100)
    for _ in range(10):
        desk.put()
    assert sorted(len(message.tasks) for _, message in desk.flush()) == [2, 2, 3, 3]


def test_one_task_goes_to_the_worker_that_has_rested_longest(desk: Desk) -> None:
    streams = [desk.connect(1) for _ in range(3)]
    turns = []
    for _ in range(6):
        desk.put()
        ((stream, message),) = desk.flush()
        turns.append(streams.index(stream))
        stream.settle(message.tasks[0].task_id, Succeeded())
        stream.settled()
    assert turns == [0, 1, 2, 0, 1, 2]


def test_the_oldest_task_is_first_whatever_its_method(desk: Desk) -> None:
    for method in ("refund", "charge", "refund"):
        desk.put(method)
    desk.connect(3)
    ((_, message),) = desk.flush()
    assert [task.idempotency_key for task in message.tasks] == ["key 0", "key 1", "key 2"]


def test_what_is_served_is_known_and_its_changes_are_told(desk: Desk) -> None:
    def served() -> tuple[frozenset[str] | None, bool]:
        return desk.pool.methods, desk.pool.serves("refund")

    assert served() == (None, False)
    some = desk.connect(1, frozenset({"charge"}))
    assert served() == (frozenset({"charge"}), False)
    everything = desk.connect(1)
    assert served() == (frozenset(), True)
    changes = desk.changes
    also_everything = desk.connect(1)
    assert desk.changes == changes, "nothing new to tell"
    for stream in (everything, also_everything):
        stream.end()
    assert served() == (frozenset({"charge"}), False)
    some.end()
    assert served() == (None, False)
    assert desk.changes > changes


def _leaves(stream: Stream) -> None:
    stream.take_no_more()


def _has_no_room(stream: Stream) -> None:
    stream.change_credits(0)
    stream.settled()


def _breaks(stream: Stream) -> None:
    stream.end()


@pytest.mark.parametrize("act", [_leaves, _has_no_room, _breaks])
def test_what_a_worker_was_woken_for_goes_to_another_when_it_does_not_come(
    act: Callable[[Stream], None], desk: Desk
) -> None:
    first, second = desk.connect(1), desk.connect(1)
    desk.put()
    assert first.is_woken
    act(first)
    assert [to for to, _ in desk.flush()] == [second]


def test_who_is_being_told_something_is_not_waited_for(desk: Desk) -> None:
    """The message may be stuck in its connection."""
    told, free = desk.connect(1), desk.connect(1)
    told.say(WorkResponse(heartbeat=True))
    desk.put()
    assert free.is_woken
    assert not told.is_woken


def test_who_was_silent_on_an_overdue_task_gets_no_more_until_it_is_heard_of(desk: Desk) -> None:
    silent = desk.connect(2)
    overdue = desk.put()
    desk.flush()
    overdue.outcome.cancel()
    silent.is_overdue(overdue.given_at)
    silent.settled()
    desk.put()
    assert not desk.flush()
    silent.heard(2.0)
    silent.settled()
    assert [to for to, _ in desk.flush()] == [silent]


def test_what_was_stuck_is_so_until_who_performs_it_has_room(desk: Desk) -> None:
    busy, other = desk.connect(1, frozenset({"charge"})), desk.connect(1, frozenset({"refund"}))
    first = desk.put()
    desk.flush()
    other.change_credits(0)
    desk.pool.stuck = {"charge", "refund"}
    other.change_credits(1)
    other.settled()
    assert desk.pool.stuck == {"charge"}
    busy.settle(first.task.task_id, Succeeded())
    busy.settled()
    assert not desk.pool.stuck
    desk.put()
    desk.pool.stuck = {"charge"}
    desk.flush()
    assert not desk.pool.stuck, "one was handed out"


class Streams(RuleBasedStateMachine):
    """Any order of acts; now and then everything woken has its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()
        self.gone: set[Stream] = set()
        self.left: set[Stream] = set()
        self.given_up: set[int] = set()

    def teardown(self) -> None:
        self.nobody_waits_while_there_is_room()
        self.desk.close()

    @property
    def alive(self) -> list[Stream]:
        return [stream for stream in self.desk.streams if stream not in self.gone]

    def pick(self, data: st.DataObject) -> Stream:
        return data.draw(st.sampled_from(self.alive))

    @rule(at_once=st.integers(1, 3), methods=st.frozensets(st.sampled_from(METHODS)))
    def connects(self, at_once: int, methods: frozenset[str]) -> None:
        self.desk.connect(at_once, methods)

    @rule(methods=st.lists(st.sampled_from(METHODS), min_size=1, max_size=6))
    def tasks_come(self, methods: list[str]) -> None:
        for method in methods:
            self.desk.put(method)

    @precondition(lambda self: any(stream.given for stream in self.alive))
    @rule(data=st.data())
    def is_told(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from([stream for stream in self.alive if stream.given]))
        task_id = data.draw(st.sampled_from(sorted(stream.given)))
        assignment = stream.given[task_id]
        was_over = assignment.outcome.done()
        late = stream.settle(task_id, Succeeded())
        assert (late is not None) == was_over
        assert stream.settle(task_id, Succeeded()) is None, "told before"
        stream.heard(2.0)
        stream.settled()

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), task_id=st.sampled_from([-1, 0, 10_000]))
    def tells_of_a_task_not_given(self, data: st.DataObject, task_id: int) -> None:
        stream = self.pick(data)
        before = {id(each) for each in self.desk.assignments if each.outcome.done()}
        assert stream.settle(task_id, Succeeded()) is None
        assert before == {id(each) for each in self.desk.assignments if each.outcome.done()}
        assert any(message.rejections for to, message in self.desk.flush() if to is stream)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), at_once=st.integers(0, 3))
    def changes_its_credits(self, data: st.DataObject, at_once: int) -> None:
        stream = self.pick(data)
        stream.change_credits(at_once)
        stream.settled()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def says_goodbye(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        self.left.add(stream)
        stream.take_no_more()
        stream.settled()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def breaks(self, data: st.DataObject) -> None:
        stream = self.pick(data)
        had = list(stream.given.values())
        awaited = [each for each in had if not each.outcome.done()]
        stream.end()
        self.gone.add(stream)
        assert all(each.lost_by == stream.worker_id for each in had)
        assert all(each.outcome.done() is (stream in self.left) for each in awaited)

    @precondition(lambda self: any(not each.outcome.done() for each in self.desk.assignments))
    @rule(data=st.data())
    def runs_out_of_time(self, data: st.DataObject) -> None:
        waiting = [each for each in self.desk.assignments if not each.outcome.done()]
        assignment = data.draw(st.sampled_from(waiting))
        if assignment.stream is None:
            self.desk.pool.forget(assignment)
            self.given_up.add(id(assignment))
            assignment.outcome.cancel()
        else:
            assignment.settle(Unknown(Cause("DEADLINE_EXCEEDED", "no outcome")))
            if not assignment.lost_by:
                assignment.stream.is_overdue(assignment.given_at)
                assignment.stream.settled()

    @rule()  # and in the end
    def nobody_waits_while_there_is_room(self) -> None:
        self.desk.flush()
        queued = [
            each for each in self.desk.assignments if each.stream is None and id(each) not in self.given_up
        ]
        for stream in self.desk.pool.streams:
            served = [each for each in queued if not stream.methods or each.task.method in stream.methods]
            assert not (served and stream.room > 0), "a task waits beside a worker with room"

    @invariant()
    def each_task_is_sent_once_and_to_one_that_performs_it(self) -> None:
        assert all(count == 1 for count in self.desk.sent.values())
        for stream in self.alive:
            for assignment in stream.given.values():
                assert not stream.methods or assignment.task.method in stream.methods

    @invariant()
    def the_pool_counts_right(self) -> None:
        pool = self.desk.pool
        assert len(pool._tasks) == sum(map(len, pool._tasks._by_method.values()))
        assert pool._woken == sum(stream.is_woken for stream in self.alive)
        assert pool._idle.keys() <= pool.streams.keys()


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
