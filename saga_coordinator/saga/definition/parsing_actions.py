"""The operations, waits and payloads of a definition, read from its canonical JSON form."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from saga_coordinator.saga.definition.model import (
    CHILD_PARTICIPANT,
    Approval,
    AwaitEvent,
    Delay,
    OnFailure,
    Operation,
    StatusMethod,
)
from saga_coordinator.saga.expressions.condition import compile_condition
from saga_coordinator.saga.expressions.expression import Expression, Template, compile_template
from saga_coordinator.saga.words.json_object import JsonObject, is_finite, text_problem
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS, LABEL_NAME_CHARACTERS_MAX, LABELS_MAX
from saga_coordinator.saga.words.names import EVENT_NAME, NAME
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.saga.words.outcome import REFUSING_STATUSES, CauseCode, OutcomeKind
from saga_coordinator.saga.words.retry import RetryPolicy

PAYLOAD_NESTING_MAX = 16
TIMEOUT_SECONDS_MAX = 3600.0
DEADLINE_SECONDS_MAX = 10 * 366 * 86400.0
ATTEMPTS_MAX = 1000
APPROVERS_MAX = 100
PAUSES_MAX = 100
BACKOFF_FIELDS = ("initial_backoff", "multiplier", "max_backoff")
"""The fields of a retry policy that its `pauses` replace."""

DEFAULT_TIMEOUT_SECONDS = 10.0
DEFAULT_PENDING_TIMEOUT_SECONDS = 86400.0
DEFAULT_STATUS_INTERVAL_SECONDS = 30.0
DEFAULT_ACTION_ATTEMPTS = 5
DEFAULT_STUBBORN_ATTEMPTS = 10
"""The default number of attempts for compensations and for steps that are never undone: for them there is no other way than
forward.
"""
CHILD_POLL_SECONDS = 2.0
"""The time after which a parent first asks for the outcome of its child; the time doubles with each further poll. A child that
ends tells its parent at once, so this only matters if that message is lost.
"""

_FULL_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")
_STATUS_NAMES = frozenset(
    {
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    }
)


_TIMEOUT_CAUSES = frozenset({str(CauseCode.PENDING_TIMEOUT), str(CauseCode.HEARTBEAT_TIMEOUT)})
"""The coordinator's own causes that leave the outcome of an attempt unknown."""
_UNSAID = RetryPolicy(0)
"""A policy that leaves the number of attempts open."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """The policies of operations that do not give their own."""

    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    retry: RetryPolicy = _UNSAID
    compensation_retry: RetryPolicy = _UNSAID
    is_forward: bool = False

    def retry_of_action(self, *, is_stubborn: bool) -> RetryPolicy:
        return _with_attempts(
            self.retry, DEFAULT_STUBBORN_ATTEMPTS if is_stubborn else DEFAULT_ACTION_ATTEMPTS
        )

    def retry_of_compensation(self) -> RetryPolicy:
        return _with_attempts(self.compensation_retry, DEFAULT_STUBBORN_ATTEMPTS)


def _with_attempts(policy: RetryPolicy, max_attempts: int) -> RetryPolicy:
    return policy if policy.max_attempts else replace(policy, max_attempts=max_attempts)


def read_defaults(source: JsonObject | None) -> Defaults:
    if source is None:
        return Defaults()
    timeout = source.seconds("timeout", DEFAULT_TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX)
    retry, undo = source.object("retry"), source.object("compensation_retry")
    is_forward = read_recovery(source, default=False)
    source.finish()
    assert timeout is not None
    return Defaults(
        timeout,
        _UNSAID if retry is None else _retry(retry, _UNSAID),
        _UNSAID if undo is None else _retry(undo, _UNSAID),
        is_forward,
    )


def read_recovery(source: JsonObject, *, default: bool) -> bool:
    """Tells whether `recovery` is forward."""
    return (
        _word(source, "recovery", "forward" if default else "backward", ("backward", "forward")) == "forward"
    )


def read_on_failure(source: JsonObject) -> OnFailure | None:
    """The `on_failure` of an action or a step; None if it is not given."""
    word = _word(source, "on_failure", "", tuple(OnFailure))
    return OnFailure(word) if word else None


def _word(source: JsonObject, name: str, default: str, words: tuple[str, ...]) -> str:
    word = source.text(name, default) or default
    if word not in words and word != default:
        source.fault(name, f"is `{word[:80]}`; it must be {' or '.join(words)}")
        return default
    return word


def read_operation(source: JsonObject, step: str, defaults: Defaults, retry: RetryPolicy) -> Operation:
    """Reads an action or a compensation. `retry` is its policy if it gives none."""
    participant = source.name("participant", NAME, "the participant that performs it")
    method = source.text("method", step) or step
    _check_method(source, method)
    template = read_payload(source, "input")
    timeout = source.seconds("timeout", defaults.timeout_seconds, TIMEOUT_SECONDS_MAX)
    pending = source.seconds("pending_timeout", DEFAULT_PENDING_TIMEOUT_SECONDS, DEADLINE_SECONDS_MAX)
    raw_retry = source.object("retry")
    if raw_retry is not None:
        retry = _retry(raw_retry, retry)
    outcomes = _outcomes(source.map("outcomes"))
    for code in sorted(retry.retry_on & REFUSING_STATUSES):
        if outcomes.get(code) is not OutcomeKind.UNKNOWN:
            told = f"names {code}, by which a participant refuses, and what is refused is not tried again"
            source.fault("retry.retry_on", f"{told}; leave it out, or say `outcomes: {{{code}: unknown}}`")
    heartbeat = _at_least_a_second(source, "heartbeat_timeout", None)
    raw_status = source.object("status")
    status, interval = _status_method(raw_status, method) if raw_status is not None else (None, None)
    source.finish()
    assert timeout is not None
    return Operation(
        participant, method, template, timeout, pending, retry, outcomes, interval, status, heartbeat
    )


def _status_method(source: JsonObject, operation_method: str) -> tuple[StatusMethod, float | None]:
    """The method by which a participant is polled about a pending operation, and the seconds between two polls."""
    method = source.text("method")
    if not method:
        source.fault("method", "is required: the method that tells what became of the operation")
    elif method == operation_method:
        source.fault(
            "method", f"is `{method}`, the operation's own method: to call that would be another attempt"
        )
    _check_method(source, method)
    template = read_payload(source, "input")
    interval = _at_least_a_second(source, "interval", DEFAULT_STATUS_INTERVAL_SECONDS)
    source.finish()
    return StatusMethod(method, template), interval


def _at_least_a_second(source: JsonObject, name: str, default: float | None) -> float | None:
    """Reads a duration of at least a second, because each time it passes an entry may be written."""
    seconds = source.seconds(name, default, DEADLINE_SECONDS_MAX)
    if seconds is not None and seconds < 1:
        source.fault(name, f"is {seconds:g} s; it must be 1 s or more")
    return seconds


def _check_method(source: JsonObject, method: str) -> None:
    if len(method) > 200:
        source.fault("method", "must be at most 200 characters")
    if "/" in method and not _FULL_METHOD.fullmatch(method):
        source.fault(
            "method",
            f"`{method}` is no full gRPC method name: write `package.Service/Method` to have that method called, or a name "
            "without a slash to have saga.v1.ParticipantService perform it",
        )


def read_child(source: JsonObject, defaults: Defaults) -> tuple[Operation, Operation]:
    """The two operations of a step that runs another saga: run it, and undo it."""
    name = source.name("definition", NAME, "the definition that it runs")
    version = source.whole("version", 0, 1, 2**31 - 1)
    template = read_payload(source, "input")
    source.finish()
    method = f"{name}@{version}" if version else name

    def operation(payload: Template | None) -> Operation:
        return Operation(
            CHILD_PARTICIPANT,
            method,
            payload,
            defaults.timeout_seconds,
            None,
            RetryPolicy(ATTEMPTS_MAX),
            poll_seconds=CHILD_POLL_SECONDS,
        )

    # Neither operation calls a service. If it fails, the coordinator's own database has failed, which comes back.
    return operation(template), operation(None)


def read_delay(source: JsonObject) -> Delay:
    """The `delay` or the `until` of a step."""
    return Delay(source.seconds("delay", None, DEADLINE_SECONDS_MAX), read_condition(source, "until"))


def read_await_event(source: JsonObject) -> AwaitEvent:
    event = source.name("event", EVENT_NAME, "the event")
    correlation = read_text(source, "correlation")
    timeout, goes_on = _wait_timeout(source)
    look_back = source.seconds("look_back", None, EVENT_KEPT_SECONDS)
    if look_back is not None and correlation is None:
        source.fault("look_back", "needs a correlation: only published events are looked for")
    source.finish()
    return AwaitEvent(event, correlation, timeout, goes_on, look_back or 0.0)


def read_approval(source: JsonObject) -> Approval:
    approvers = source.each("approvers")
    if len(approvers) > APPROVERS_MAX:
        source.fault("approvers", f"lists {len(approvers)}; at most {APPROVERS_MAX} are allowed")
    for index, approver in enumerate(approvers[:APPROVERS_MAX]):
        if not isinstance(approver, str) or not 1 <= len(approver) <= 200 or text_problem(approver):
            source.fault(f"approvers[{index}]", "must be a name of 1 to 200 characters")
    shows = read_payload(source, "show")
    timeout, goes_on = _wait_timeout(source)
    source.finish()
    return Approval(tuple(str(approver) for approver in approvers), shows, timeout, goes_on)


def _wait_timeout(source: JsonObject) -> tuple[float | None, bool]:
    timeout = source.seconds("timeout", None, DEADLINE_SECONDS_MAX)
    word = _word(source, "on_timeout", "", ("fail", "continue"))
    if word and timeout is None:
        source.fault("on_timeout", "needs a timeout")
    return timeout, word == "continue"


def read_payload(source: JsonObject, name: str) -> Template | None:
    """A payload with `${...}`; None when it is not given."""
    raw = source.raw(name)
    if raw is None:
        return None
    if problem := _payload_problem(raw):
        source.fault(name, problem)
        return None
    return compile_template(raw, source.at(name), source.faults)


def read_text(source: JsonObject, name: str) -> Template | None:
    """A text with `${...}`; None when it is not given."""
    text = source.text(name)
    return compile_template(text, source.at(name), source.faults) if text else None


def read_condition(source: JsonObject, name: str) -> Expression | None:
    """Reads a field that is always an expression; None if it is not given or faulty."""
    text = source.text(name)
    return compile_condition(text, source.at(name), source.faults) if text else None


def read_labels(source: JsonObject | None) -> dict[str, Template]:
    if source is None:
        return {}
    labels: dict[str, Template] = {}
    for name in source.names:
        if template := read_text(source, name):
            labels[name] = template
        if not 1 <= len(name) <= LABEL_NAME_CHARACTERS_MAX or text_problem(name):
            source.fault(name, f"must have a name of 1 to {LABEL_NAME_CHARACTERS_MAX} characters")
    if len(labels) > LABELS_MAX:
        source.fault("", f"has {len(labels)} labels; at most {LABELS_MAX} are allowed")
    return labels


def _outcomes(source: JsonObject | None) -> dict[str, OutcomeKind]:
    if source is None:
        return {}
    outcomes: dict[str, OutcomeKind] = {}
    for name in source.names:
        word = _word(source, name, "", tuple(OutcomeKind))
        if name not in _STATUS_NAMES:
            source.fault(
                name,
                f"is no gRPC status that an error can have; there are: {', '.join(sorted(_STATUS_NAMES))}",
            )
        elif word:
            outcomes[name] = OutcomeKind(word)
    return outcomes


def _retry(source: JsonObject, policy: RetryPolicy) -> RetryPolicy:
    """Reads a retry policy. A field that the object does not give is taken from the given policy."""
    max_attempts = source.whole("max_attempts", policy.max_attempts, 1, ATTEMPTS_MAX)
    initial = source.seconds("initial_backoff", policy.initial_backoff_seconds, TIMEOUT_SECONDS_MAX)
    multiplier = source.number("multiplier", policy.multiplier, 1, 100)
    maximum = source.seconds("max_backoff", None, DEADLINE_SECONDS_MAX)
    pauses, retry_on = _pauses(source, policy), _retry_on(source, policy)
    source.finish()
    assert initial is not None
    if maximum is None:
        maximum = max(policy.max_backoff_seconds, initial)
    elif maximum < initial:
        source.fault("max_backoff", f"is {maximum:g} s, less than initial_backoff ({initial:g} s)")
    return RetryPolicy(max_attempts, initial, multiplier, maximum, pauses, retry_on)


def _pauses(source: JsonObject, policy: RetryPolicy) -> tuple[float, ...]:
    pauses = tuple(source.each_seconds("pauses", DEADLINE_SECONDS_MAX))
    backoff = [name for name in BACKOFF_FIELDS if source.raw(name) is not None]
    if len(pauses) > PAUSES_MAX:
        source.fault("pauses", f"lists {len(pauses)}; at most {PAUSES_MAX} are allowed")
    if pauses and backoff:
        source.fault("pauses", f"cannot stand beside `{backoff[0]}`: pauses are either listed or computed")
    return pauses or (() if backoff else policy.pauses)


def _retry_on(source: JsonObject, policy: RetryPolicy) -> frozenset[str]:
    codes = source.each("retry_on")
    known = _STATUS_NAMES | _TIMEOUT_CAUSES
    for index, code in enumerate(codes[: len(known) + 1]):
        if not isinstance(code, str) or code not in known:
            there = f"there are: {', '.join(sorted(known))}{did_you_mean(str(code), known)}"
            source.fault(
                f"retry_on[{index}]", f"`{str(code)[:80]}` is no cause of an unknown outcome; {there}"
            )
    if len(codes) > len(known):
        source.fault("retry_on", f"lists {len(codes)} causes; there are {len(known)}")
    return frozenset(map(str, codes)) or policy.retry_on


def _payload_problem(payload: Any) -> str | None:
    level, nesting = [payload], 0
    while level:
        nesting += 1
        if nesting > PAYLOAD_NESTING_MAX:
            return f"is nested deeper than {PAYLOAD_NESTING_MAX} levels"
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below += [*node, *node.values()]
                if odd := [key for key in node if not isinstance(key, str)]:
                    return f"has a key that is not a string ({str(odd[0])[:80]}); put it in quotes"
            elif isinstance(node, list):
                below += node
            elif isinstance(node, str):
                if problem := text_problem(node):
                    return problem
            elif isinstance(node, int | float):
                if not is_finite(node):
                    return "must not contain NaN, infinite numbers or whole numbers that no double can hold"
            elif node is not None:
                what = f"{type(node).__name__} {str(node)[:80]}"
                return f"has a value that JSON does not know ({what}); put it in quotes"
        level = below
    return None
