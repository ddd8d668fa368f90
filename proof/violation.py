"""What every judge finds: a promise that was broken, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken. `saga_id` is empty where it concerns no saga in particular."""

    promise: str
    saga_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise} {self.saga_id}: {self.what}"
