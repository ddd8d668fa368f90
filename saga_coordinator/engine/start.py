"""The request to start a saga."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from saga_coordinator.saga.machine.entries import Parent
from saga_coordinator.saga.words.canonical import NotCanonical, canonical, digest_bytes
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.saga.words.immutable import immutable
from saga_coordinator.saga.words.namespace import DEFAULT_NAMESPACE, Namespace
from saga_coordinator.saga.words.outcome import Cause


@immutable
class StartSaga:
    """A request to start a saga. `version` 0 means the default version, and `deadline_seconds` None the definition's deadline.

    `namespace` holds the definition, the start key and the saga. `headers` travel with every call of the saga; a repetition of
    the request may have others. `parent` and `recalled_for` are for children: see `engine/children.py`.
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
    namespace: Namespace = DEFAULT_NAMESPACE

    def prepared(self) -> tuple[StartSaga, bytes]:
        """Returns the request with its input in the form in which it is kept, and the request's digest. Raises InvalidRequest."""
        try:
            given = canonical(self.input)
        except NotCanonical as error:
            raise InvalidRequest.at("input", str(error)) from None
        request = self if given is self.input else replace(self, input=given)
        return request, request.digest()

    def digest(self) -> bytes:
        """The digest by which two requests with one start key are known to be the same request (P9).

        A child's start key is its parent's own, so every request with that key is the same request. That includes the request
        that only makes sure that the child cannot start any more.
        """
        if self.parent is not None:
            return hashlib.sha256(self.start_key.encode()).digest()
        said = (self.definition, self.version, self.input, dict(self.labels or {}), self.deadline_seconds)
        return hashlib.sha256(digest_bytes(said)).digest()
