"""Reads what workers say and participants declare, checked whole: InvalidRequest has every fault of a request."""

from __future__ import annotations

from dataclasses import dataclass

from saga_coordinator.participants.workers.stream import Greeting
from saga_coordinator.pb.saga.v1 import worker_service_pb2
from saga_coordinator.saga.definition.declared import Declared, declaration_faults
from saga_coordinator.saga.words.errors import InvalidRequest
from saga_coordinator.wire.canonical_form import canonical_form
from saga_coordinator.wire.field_checks import METHOD_CHARACTERS_MAX, WORKER_ID_CHARACTERS_MAX, FieldChecks
from saga_coordinator.wire.payload import PayloadError, too_large
from saga_coordinator.wire.request_bytes import parsed
from saga_coordinator.wire.unparsed import fields, largest_payload, number_of

METHODS_MAX = 1000
DECLARED_STEPS_MAX = 200
WORKER_MESSAGE_BYTES_MIN = 64 * 1024

_TASK_OUTCOME = worker_service_pb2.TaskOutcome.DESCRIPTOR
_TASK_ID = _TASK_OUTCOME.fields_by_name["task_id"].number
_OUTCOMES = worker_service_pb2.WorkRequest.DESCRIPTOR.fields_by_name["outcomes"].number


@dataclass(frozen=True, slots=True)
class Oversized:
    """An outcome that is not taken because its output is too large: the task, and the reason."""

    task_id: int
    error: PayloadError


def greeting(request: worker_service_pb2.WorkRequest, message_bytes_max: int) -> Greeting:
    """The greeting in a worker's first message. `message_bytes_max` is the largest message it receives unless it says so."""
    if not request.HasField("hello"):
        raise InvalidRequest.at("hello", "is required in the first message")
    checks = FieldChecks()
    hello = request.hello
    if len(hello.methods) > METHODS_MAX:
        checks.add("hello.methods", f"has {len(hello.methods)} methods; {METHODS_MAX} is the limit")
    else:
        for index, method in enumerate(hello.methods):
            checks.line(f"hello.methods[{index}]", method, METHOD_CHARACTERS_MAX, is_required=True)
    checks.credits("hello.credits", hello.credits)
    if hello.message_bytes_max and hello.message_bytes_max < WORKER_MESSAGE_BYTES_MIN:
        checks.add(
            "hello.message_bytes_max",
            f"must be {WORKER_MESSAGE_BYTES_MIN} or more, or 0 for {message_bytes_max}",
        )
    welcomed = Greeting(
        participant=checks.name("hello.participant", hello.participant, is_required=True),
        methods=frozenset(hello.methods),
        credits=hello.credits,
        worker_id=checks.line("hello.worker_id", hello.worker_id, WORKER_ID_CHARACTERS_MAX, is_required=True),
        version=checks.name("hello.version", hello.version),
        message_bytes_max=hello.message_bytes_max or message_bytes_max,
    )
    checks.done()
    return welcomed


def work(raw: bytes, payload_bytes_max: int) -> tuple[worker_service_pb2.WorkRequest, list[Oversized]]:
    """A worker's message without the outcomes whose output is too large, on which no time is spent."""
    if len(raw) <= payload_bytes_max:
        return parsed(worker_service_pb2.WorkRequest, raw), []
    kept: list[bytes] = []
    oversized: list[Oversized] = []
    for number, begin, content, after in fields(raw):
        if number == _OUTCOMES:
            path, size = largest_payload(_TASK_OUTCOME, raw, content, after)
            if size > payload_bytes_max:
                task_id = number_of(raw, _TASK_ID, content, after)
                oversized.append(Oversized(task_id, too_large(size, payload_bytes_max, path)))
                continue
        kept.append(raw[begin:after])
    return parsed(worker_service_pb2.WorkRequest, b"".join(kept) if oversized else raw), oversized


def credits_of(request: worker_service_pb2.WorkRequest) -> int:
    """How many tasks a worker takes at once from now on."""
    checks = FieldChecks()
    checks.credits("credits", request.credits, may_be_zero=True)
    checks.done()
    return request.credits


def declared_steps(request: worker_service_pb2.RegisterStepsRequest) -> tuple[str, Declared]:
    """The participant, and the steps that it offers."""
    checks = FieldChecks()
    participant = checks.name("participant", request.participant, is_required=True)
    version = checks.name("version", request.version)
    if len(request.steps) > DECLARED_STEPS_MAX:
        checks.add("steps", f"has {len(request.steps)} steps; {DECLARED_STEPS_MAX} is the limit")
    checks.done()
    steps = canonical_form(request, checks.found).get("steps", [])
    for index, step in enumerate(request.steps):
        checks.text(f"steps[{index}].description", step.description)
    checks.found += declaration_faults(participant, steps)
    checks.done()
    return participant, Declared(version, {step["name"]: step for step in steps})


def declared_step_list(request: worker_service_pb2.ListDeclaredStepsRequest) -> tuple[str, int]:
    """The participant, and how many of its steps to list."""
    checks = FieldChecks()
    participant = checks.name("participant", request.participant, is_required=True)
    page_size = checks.page_size(request.page_size, DECLARED_STEPS_MAX)
    checks.done()
    return participant, page_size
