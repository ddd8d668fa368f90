"""The token that comes with each call: a text that names the attempt, for the participant to report its outcome with.

The token permits nothing: RPCs are authorised elsewhere, and a report may name saga, step and operation instead. So the token
carries no secret. It carries a checksum, against texts that were cut or mixed up on the way.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b

from saga_coordinator.saga.words.identity import OperationKind

_CHECKSUM_BYTES = 6


@dataclass(frozen=True, slots=True)
class AttemptNamed:
    """The attempt that a token names. `step` is the key of the step's instance."""

    saga_id: str
    step: str
    operation: OperationKind
    attempt: int


def token_of(saga_id: str, step: str, operation: OperationKind, attempt: int) -> str:
    """The token of an attempt: ASCII without white space, fit for gRPC metadata."""
    content = f"{saga_id}\n{operation}\n{attempt}\n{step}".encode()
    return urlsafe_b64encode(_checksum(content) + content).rstrip(b"=").decode()


def parse_token(token: str) -> AttemptNamed:
    """The attempt that `token_of` named.

    Raises:
        ValueError: `token_of` made no such token.
    """
    raw = token.encode("ascii")
    found = urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    checksum, content = found[:_CHECKSUM_BYTES], found[_CHECKSUM_BYTES:]
    saga_id, operation, attempt, step = content.decode().split("\n")
    named = AttemptNamed(saga_id, step, OperationKind(operation), int(attempt))
    if checksum != _checksum(content) or token != token_of(saga_id, step, named.operation, named.attempt):
        raise ValueError("the checksum does not fit")
    return named


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM_BYTES).digest()
