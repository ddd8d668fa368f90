"""Commits that fail after their statement: at a full disk, a serialization failure, a deferred constraint."""

from __future__ import annotations

import random
from collections import Counter

from saga_coordinator.saga.words.errors import Unavailable
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.appends import TakenBack


class CommitFailed(Unavailable):
    """Whatever was the matter passes, and the connection with it."""


class CommitRefused(Exception):
    """The transaction is at odds with something that has nothing to do with outages; another one may be committed at once."""


class CommitTakenBack(TakenBack):
    """Whatever was the matter passes, and the connection goes on."""


class FailingCommits:
    """Draws which of the journal's commits fail: in some batches none, in some many.

    Its dice are its own, so that a batch without such failures is the same as if there were none at all.
    """

    def __init__(self, dice: random.Random, faults: Counter[str]) -> None:
        self._dice = dice
        self._faults = faults
        self._failed = dice.choice((0.0, 0.0, 0.01, 0.05))
        self._refused = dice.choice((0.0, 0.0, 0.0, 0.01))
        self._taken_back = dice.choice((0.0, 0.0, 0.01, 0.2))

    def heal(self) -> None:
        """None fails any more."""
        self._failed = self._refused = self._taken_back = 0.0

    def commit(self) -> None:
        """Raises CommitFailed, CommitRefused or CommitTakenBack, and then nothing of the transaction is there."""
        fate = self._dice.random()
        if fate < self._failed:
            self._faults["commit_failed"] += 1
            raise CommitFailed(Reason.DATABASE_UNAVAILABLE, "no space left on device, at the commit")
        if fate < self._failed + self._refused:
            self._faults["commit_refused"] += 1
            raise CommitRefused("a deferred constraint does not hold")
        if fate < self._failed + self._refused + self._taken_back:
            self._faults["commit_taken_back"] += 1
            raise CommitTakenBack(Reason.DATABASE_UNAVAILABLE, "could not serialize, at the commit")
