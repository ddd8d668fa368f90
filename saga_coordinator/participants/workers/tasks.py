"""The conversion of an attempt into a worker's task, `saga.v1.Task`."""

from __future__ import annotations

from saga_coordinator.pb.saga.v1.worker_service_pb2 import Task
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.words.identity import OperationKind, idempotency_key
from saga_coordinator.saga.words.token import token_of
from saga_coordinator.wire.causes import cause_message
from saga_coordinator.wire.enumerations import OPERATION_NUMBERS
from saga_coordinator.wire.payload import fill


def task_of(call: Invoke) -> Task:
    """The attempt as a worker sees it. Whoever hands the task out sets `task_id` and `timeout`.

    Raises:
        PayloadError: the input cannot be sent.
    """
    task = Task(
        idempotency_key=call.idempotency_key,
        saga_id=call.saga_id,
        step=call.step,
        operation=OPERATION_NUMBERS[call.operation],
        method=call.method,
        attempt=call.attempt,
        token=token_of(call.saga_id, call.step, call.operation, call.attempt),
    )
    if call.headers:
        task.headers.update(call.headers)
    if call.operation is OperationKind.COMPENSATION:
        task.action_idempotency_key = idempotency_key(call.saga_id, call.step, OperationKind.ACTION)
        if call.failure is not None:
            task.failure.CopyFrom(cause_message(call.failure))
    fill(task.input, call.input)
    return task


def written(task: Task) -> bytes:
    """The task as it is sent, without `task_id` and `timeout`, which follow when it is handed out.

    Keys are in order, because protobuf orders its maps differently in each process (P5). That takes long for many keys.
    """
    task.ClearField("timeout")
    return task.SerializeToString(deterministic=True)


def operation_of(task: Task) -> OperationKind:
    """The operation, of its step's two, that the task is an attempt of."""
    is_action = task.operation == OPERATION_NUMBERS[OperationKind.ACTION]
    return OperationKind.ACTION if is_action else OperationKind.COMPENSATION
