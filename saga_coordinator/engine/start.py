"""The request to start a saga."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from saga_coordinator.saga.entries import Parent
from saga_coordinator.saga.immutable import immutable
from saga_coordinator.saga.outcome import Cause


@immutable
class StartSaga:
    """A request to start a saga; `version` 0 is the default, `deadline_seconds` None the definition's.

    `headers` travel with every call of the saga; a repetition may come with others. `parent` and `recalled_for` are for children:
    see `engine/children.py`.
    """

    definition: str
    start_key: str
    version: int = 0
    input: Any = None
    labels: Mapping[str, str] | None = None
    deadline_seconds: float | None = None
    headers: Mapping[str, str] | None = None
    parent: Parent | None = None
    recalled_for: Cause | None = None

    def digest(self) -> bytes:
        """Tells whether two requests with one start key are the same request (P9).

        A child's start key is its parent's own, so whatever comes with it is the same request: also the one that only makes sure
        that nothing can start any more.
        """
        if self.parent is not None:
            return hashlib.sha256(self.start_key.encode()).digest()
        said = (self.definition, self.version, self.input, dict(self.labels or {}), self.deadline_seconds)
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()
