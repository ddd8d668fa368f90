"""What makes a service safe to take part in sagas: one table, and two functions that every call goes through.

The coordinator may call an operation again whenever it cannot know whether the call before took effect,
always with the same idempotency key. So a participant promises three things
(`saga/v1/participant_service.proto`):

    idempotency        a key seen before is answered as before, and its effect is applied once
    null compensation  undoing an action that never took effect changes nothing, and is answered NOT_FOUND
    late arrival       an action that arrives after its compensation is refused

All three come from writing the key and the answer in the same transaction as the effect:

  - The primary key of `operations` decides between two calls with one key: the second waits until the
    first has committed, then finds its answer; or until it has rolled back, then does the work itself.
  - A compensation also claims the key of the action that it undoes. If the action is still running, it
    waits for its end. If the action never came, the row that the compensation leaves, a tombstone, is
    what the action finds when it comes after all.

The effect has to be a change in the same database. Where it is a call to another system (a bank, a
courier), pass the idempotency key on to that system, so that it can keep the same promise in turn.

This module is meant to be copied. It needs psycopg 3, grpcio and the stubs of saga-client.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from psycopg import Connection
from psycopg.types.json import Jsonb
from saga_client.v1.participant_service_pb2 import CompensateRequest, ExecuteRequest

Output = dict[str, Any]

SCHEMA: Final = """
create table if not exists operations (
    idempotency_key text primary key,
    kind            text not null constraint operations_kind_is_known
                    check (kind in ('action', 'compensation', 'tombstone')),
    request_digest  text,  -- null in a tombstone that came before its action
    status          text,  -- of gRPC; null only inside the transaction that does the work
    message         text not null default '',
    output          jsonb,
    times_seen      integer not null default 1,
    recorded_at     timestamptz not null default now()
)
"""

CLAIM: Final = """
insert into operations (idempotency_key, kind, request_digest) values (%s, %s, %s)
on conflict (idempotency_key) do update set times_seen = operations.times_seen + 1
returning status, request_digest, message, output
"""

REMEMBER: Final = "update operations set status = %s, message = %s, output = %s where idempotency_key = %s"

TOMBSTONE: Final = """
insert into operations (idempotency_key, kind, status, message) values (%s, 'tombstone', %s, %s)
on conflict (idempotency_key) do nothing
"""

STATUS: Final = "select status from operations where idempotency_key = %s for update"

BURY: Final = """
update operations set kind = 'tombstone', status = %s, message = %s, output = null where idempotency_key = %s
"""


class Refused(Exception):
    """The participant decides no: this did not take effect and will not. Raised by the service's own code."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller is told, this time and every time that it asks with the same key."""

    code: grpc.StatusCode
    message: str = ""
    output: Output | None = None
    from_memory: bool = False


NOTHING_TO_UNDO: Final = Answer(grpc.StatusCode.NOT_FOUND, "nothing to undo: the action never took effect")
LATE: Final = Answer(grpc.StatusCode.FAILED_PRECONDITION, "too late: this action has been compensated")


def execute(
    connection: Connection,
    request: ExecuteRequest,
    action: Callable[[Connection, ExecuteRequest], Output],
) -> Answer:
    """Performs `action` unless its key was seen before, and remembers the answer, a refusal too.

    Raises `Refused` when the key was used for a different request.
    """
    digest = _digest(request.method, MessageToDict(request.input))
    with connection.transaction():
        remembered = _claim(connection, request.idempotency_key, "action", digest)
        if remembered is not None:
            return remembered
        try:
            with connection.transaction():  # a savepoint: a refusal takes back what the action had begun
                answer = Answer(grpc.StatusCode.OK, output=action(connection, request))
        except Refused as refusal:
            answer = Answer(refusal.code, refusal.message)
        _remember(connection, request.idempotency_key, answer)
    return answer


def compensate(
    connection: Connection,
    request: CompensateRequest,
    compensation: Callable[[Connection, CompensateRequest], Output],
) -> Answer:
    """Performs `compensation` if the action took effect, and bars the action from now on.

    Raises `Refused` when the key was used for a different request, or when the compensation refuses.
    Neither is remembered, so that it can be attempted again once a person has removed the cause.
    """
    digest = _digest(request.method, request.action_idempotency_key)
    with connection.transaction():
        remembered = _claim(connection, request.idempotency_key, "compensation", digest)
        if remembered is not None:
            return remembered
        if _bury(connection, request.action_idempotency_key):
            answer = Answer(grpc.StatusCode.OK, output=compensation(connection, request))
        else:
            answer = NOTHING_TO_UNDO
        _remember(connection, request.idempotency_key, answer)
    return answer


def _claim(connection: Connection, key: str, kind: str, digest: str) -> Answer | None:
    """Makes the key ours until the transaction ends, or returns what was answered to it before."""
    status, known_digest, message, output = connection.execute(CLAIM, (key, kind, digest)).fetchall()[0]
    if status is None:
        return None
    if known_digest is not None and known_digest != digest:
        raise Refused(f"the key {key} was used for a different request", grpc.StatusCode.ALREADY_EXISTS)
    return Answer(grpc.StatusCode[status], message, output, from_memory=True)


def _remember(connection: Connection, key: str, answer: Answer) -> None:
    output = None if answer.output is None else Jsonb(answer.output)
    connection.execute(REMEMBER, (answer.code.name, answer.message, output, key))


def _bury(connection: Connection, action_key: str) -> bool:
    """Leaves a tombstone under the action's key. True when the action had taken effect."""
    if connection.execute(TOMBSTONE, (action_key, LATE.code.name, LATE.message)).rowcount == 1:
        return False
    row = connection.execute(STATUS, (action_key,)).fetchone()
    connection.execute(BURY, (LATE.code.name, LATE.message, action_key))
    return row == (grpc.StatusCode.OK.name,)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
