"""The policy for making an attempt again: capped exponential backoff with full jitter."""

from dataclasses import dataclass

_EXPONENT_MAX = 1023  # beyond it a float overflows; any policy has reached its cap long before


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first attempt too; the other fields are seconds and a factor of at least 1."""

    max_attempts: int
    initial_backoff_seconds: float = 0.1
    multiplier: float = 2.0
    max_backoff_seconds: float = 10.0

    def backoff_seconds(self, failures: int, jitter: float) -> float:
        """The pause after `failures` failed attempts (1 or more), for a draw `jitter` in [0, 1).

        `jitter * min(max, initial * multiplier^(failures-1))`: full jitter spreads retries best
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        """
        exponent = min(failures - 1, _EXPONENT_MAX)
        try:
            ceiling = self.initial_backoff_seconds * self.multiplier**exponent
        except OverflowError:
            ceiling = self.max_backoff_seconds
        return jitter * min(self.max_backoff_seconds, ceiling)
