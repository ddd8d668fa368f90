"""The tasks of one participant that wait for a worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from saga_coordinator.participants.workers.assignment import Assignment


class TaskQueue:
    """The tasks that wait, by method, and the oldest first. A task has a number, in the order in which the tasks came.

    Where a set of `methods` is asked for, the empty set means all methods.
    """

    __slots__ = ("_by_method", "_count", "_last_number")

    def __init__(self) -> None:
        self._by_method: dict[str, OrderedDict[int, Assignment]] = {}
        self._count = 0
        self._last_number = 0

    def __len__(self) -> int:
        return self._count

    @property
    def methods(self) -> list[str]:
        """The methods for which tasks wait."""
        return list(self._by_method)

    def put(self, assignment: Assignment) -> None:
        """Queues a task behind all others."""
        self._last_number += 1
        assignment.number = self._last_number
        method = assignment.task.method
        tasks = self._by_method.get(method)
        if tasks is None:
            tasks = self._by_method[method] = OrderedDict()
        tasks[assignment.number] = assignment
        self._count += 1

    def forget(self, assignment: Assignment) -> None:
        """Takes a task out, if it is still there."""
        method = assignment.task.method
        tasks = self._by_method.get(method)
        if tasks is not None and tasks.pop(assignment.number, None) is not None:
            self._count -= 1
            if not tasks:
                del self._by_method[method]

    def has_task_for(self, methods: frozenset[str]) -> bool:
        """Tells whether a task of any of the methods waits."""
        return bool(self._by_method) and (not methods or any(method in methods for method in self._by_method))

    def take_oldest(self, methods: frozenset[str]) -> Assignment | None:
        """Takes out the task that waits longest among the tasks of the methods; None if there is none."""
        tasks = self._oldest(methods)
        if tasks is None:
            return None
        _, assignment = tasks.popitem(last=False)
        self._count -= 1
        if not tasks:
            del self._by_method[assignment.task.method]
        return assignment

    def take_all(self, method: str) -> Iterator[Assignment]:
        """Takes out all tasks of a method."""
        tasks = self._by_method.pop(method)
        self._count -= len(tasks)
        yield from tasks.values()

    def _oldest(self, methods: frozenset[str]) -> OrderedDict[int, Assignment] | None:
        by_method = self._by_method
        if not methods and len(by_method) == 1:
            return next(iter(by_method.values()))
        served = [tasks for method, tasks in by_method.items() if not methods or method in methods]
        return min(served, key=lambda tasks: next(iter(tasks)), default=None)
