"""The policy for retrying what the program itself needs: a database, a listener, a file, a loop that failed.

- Pauses double from the first to the longest. Each pause is drawn from the upper half of its range, so that
  coordinators that lost the same thing at the same moment do not all come back at once.
- An outage is logged once, when it begins, and not again with every try.

Tenacity does the work. It sleeps by `asyncio.sleep`, so that simulated time passes. This module never repeats the attempts of
an operation: the core decides on those, and the saga's log says when and why.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_never,
    stop_when_event_set,
    wait_exponential,
)

_T = TypeVar("_T")

Tell = Callable[[BaseException], None]
"""A function that is told why something is tried again."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """The pauses after failures in a row: about `first_seconds` after the first failure, and at most `longest_seconds`."""

    first_seconds: float
    longest_seconds: float

    def after(self, failures: int) -> float:
        """The seconds to wait after so many failures in a row."""
        state = RetryCallState(_NOTHING, None, (), {})
        state.attempt_number = failures
        return self(state)

    def __call__(self, state: RetryCallState) -> float:
        """The seconds to wait, in the form in which tenacity asks for them."""
        whole = wait_exponential(multiplier=self.first_seconds, max=self.longest_seconds)(state)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311  # guards nothing


_NOTHING = Retrying()

DATABASE_PAUSES = Pauses(0.5, 1.0)
"""The pauses between attempts to reach a database that is not there when a program starts."""


async def retried(
    work: Callable[[], Awaitable[_T]],
    on: type[Exception],
    pauses: Pauses,
    *,
    tell: Tell,
    seconds_max: float | None = None,
) -> _T:
    """Does `work` until it does not raise `on`; returns what it returned. `tell` hears of the first failure.

    Raises whatever else `work` raises, and `on` if `work` still fails after `seconds_max`.
    """

    async def attempt() -> _T:
        return await work()

    return await AsyncRetrying(
        wait=pauses,
        retry=retry_if_exception_type(on),
        stop=stop_never if seconds_max is None else stop_after_delay(seconds_max),
        before_sleep=_first(tell),
        reraise=True,
    )(attempt)


def retried_in_thread(
    work: Callable[[], _T],
    on: type[Exception],
    pauses: Pauses,
    *,
    tell: Tell,
    seconds_max: float | None = None,
) -> _T:
    """Does what `retried` does, in a thread that may block."""
    return Retrying(
        wait=pauses,
        retry=retry_if_exception_type(on),
        stop=stop_never if seconds_max is None else stop_after_delay(seconds_max),
        before_sleep=_first(tell),
        reraise=True,
    )(work)


def retried_until(
    over: threading.Event, work: Callable[[], None], on: type[BaseException], pauses: Pauses, *, tell: Tell
) -> None:
    """Does `work`, in a thread, until it does not raise `on`, or until `over` is set, which also ends a pause.

    `tell` hears of every failure.
    """

    def attempt() -> None:
        if not over.is_set():
            work()

    Retrying(
        wait=pauses,
        retry=retry_if_exception_type(on),
        stop=stop_when_event_set(over),
        sleep=sleep_using_event(over),
        before_sleep=lambda state: tell(_failure(state)),
        retry_error_callback=lambda _: None,
    )(attempt)


async def kept_going(
    work: Callable[[], Awaitable[None]],
    *,
    is_failure: Callable[[BaseException], bool],
    pause: Callable[[BaseException], float],
) -> None:
    """Begins `work` again whenever it fails, however long that goes on. Returns when `work` returns.

    `pause` hears of each failure and says for how many seconds to wait. Raises every exception that is no failure.
    """

    async def attempt() -> None:
        await work()

    await AsyncRetrying(
        wait=lambda state: pause(_failure(state)), retry=retry_if_exception(is_failure), reraise=True
    )(attempt)


def _first(tell: Tell) -> Callable[[RetryCallState], None]:
    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            tell(_failure(state))

    return before_sleep


def _failure(state: RetryCallState) -> BaseException:
    failure = state.outcome.exception() if state.outcome is not None else None
    assert failure is not None
    return failure
