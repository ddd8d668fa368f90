"""The policy for making an attempt again: capped exponential backoff with full jitter, or pauses as they are listed."""

from dataclasses import dataclass

_EXPONENT_MAX = 1023  # beyond it a float overflows; any policy has reached its cap long before


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first attempt too; the other numbers are seconds and a factor of at least 1.

    If there are `pauses`, in seconds, they are made as they are, and the last one again and again. If there is a `retry_on`, only
    an attempt with one of these causes is made again.
    """

    max_attempts: int
    initial_backoff_seconds: float = 0.1
    multiplier: float = 2.0
    max_backoff_seconds: float = 10.0
    pauses: tuple[float, ...] = ()
    retry_on: frozenset[str] = frozenset()

    def allows(self, code: str, failures: int) -> bool:
        """Tells whether another attempt follows the last of so many failed attempts, whose cause has that code."""
        return failures < self.max_attempts and (not self.retry_on or code in self.retry_on)

    def backoff_seconds(self, failures: int, jitter: float) -> float:
        """The pause after `failures` failed attempts (1 or more), for a draw `jitter` in [0, 1).

        `jitter * min(max, initial * multiplier^(failures-1))`: full jitter spreads retries best
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        """
        if self.pauses:
            return self.pauses[min(failures, len(self.pauses)) - 1]
        exponent = min(failures - 1, _EXPONENT_MAX)
        try:
            ceiling = self.initial_backoff_seconds * self.multiplier**exponent
        except OverflowError:
            ceiling = self.max_backoff_seconds
        return jitter * min(self.max_backoff_seconds, ceiling)
