"""What happened, as seen from outside of the engine: on the wire, at the clients and in the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from saga_coordinator.saga.words.act import Act
from saga_coordinator.saga.words.outcome import Outcome

CallKey = tuple[str, str, str]
"""A saga, a step and an operation."""

AttemptKey = tuple[str, str, str, int]
"""The same, and the attempt's number."""


@dataclass(slots=True)
class Call:
    """One attempt on the wire. `answered_at`: when the caller had an answer, gave up or hung up. `lease_until`, `intent_by` and
    `intent_at` are what the database said at `asked_at`, when the engine asked for the attempt: the caller's lease, and who had
    committed the intent when. Between that and `sent_at` it waited for its turn, or for a worker; at `over_by` it has ended.
    """

    saga_id: str
    step: str
    operation: str
    attempt: int
    key: str
    input: Any
    node: str
    sent_at: float
    timeout_seconds: float
    lease_until: float
    intent_by: str | None
    intent_at: float
    asked_at: float = 0.0
    over_by: float = float("inf")
    answered_at: float | None = None
    outcome: Outcome | None = None
    was_cut_off: bool = False
    is_lost: bool = False
    """Whether a worker has it, as far as anybody knows, who will not be heard of it any more: its stream broke."""

    @property
    def over_at(self) -> float:
        """From when on it cannot be in flight any more, as far as its sender is concerned."""
        limit = self.sent_at + self.timeout_seconds
        return limit if self.answered_at is None or self.is_lost else min(limit, self.answered_at)


@dataclass(slots=True)
class Report:
    """An outcome that a participant reported, of `attempt`, or of 0 where it does not say of which one.

    `answers`: for each telling, whether it moved something; None: refused. There are none of what was told in another way.
    """

    saga_id: str
    step: str
    operation: str
    outcome: Outcome
    made_at: float
    attempt: int = 0
    answers: list[bool | None] = field(default_factory=list)


@dataclass(slots=True)
class Beat:
    """A sign of life of a pending attempt. `is_awaited` is the answer; None while there is none."""

    attempt: int
    asked_at: float
    is_awaited: bool | None = None
    answered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Handed:
    """A task that was given to a worker's stream by `node`."""

    node: str
    stream: int
    at: float


@dataclass(frozen=True, slots=True)
class StartAnswer:
    """What a client was told that asked with `body`; `saga_id` is None for ALREADY_EXISTS."""

    body: int
    saga_id: str | None
    is_created: bool


@dataclass(slots=True)
class Start:
    """A client's wish for a saga; the same start key may be used with another body."""

    start_key: str
    definition: str
    input: Any
    deadline_seconds: float | None
    answers: list[StartAnswer] = field(default_factory=list)


@dataclass(slots=True)
class Cancel:
    """An operator's act, however often it is asked for. `is_done` is None while nobody answered, False when it was refused."""

    saga_id: str
    asked_at: float
    act: Act
    is_done: bool | None = None
    answered_at: float = 0.0


@dataclass(slots=True)
class Asking:
    """One time that an event was published: for how many sagas it counted, or None; `is_over` when no answer can follow."""

    asked_at: float
    sagas: int | None = None
    is_over: bool = False
    answered_at: float = 0.0


@dataclass(slots=True)
class Publication:
    """An event, `content` being its name, correlation and payload."""

    event_id: str
    content: tuple[str, str, Any]
    keep_seconds: float | None
    askings: list[Asking] = field(default_factory=list)


@dataclass(slots=True)
class Signal:
    """An event that was sent to one saga. `answer` tells whether it counted; None while nobody said or when it was refused."""

    event_id: str
    content: tuple[str, str, Any]
    asked_at: float
    answer: bool | None = None
    is_refused: bool = False
    answered_at: float = 0.0


@dataclass(slots=True)
class Approval:
    """A person's decision, `answer` as in `Signal`."""

    step: str
    decided_by: str
    is_approved: bool
    asked_at: float
    answer: bool | None = None
    is_refused: bool = False
    answered_at: float = 0.0


@dataclass(slots=True)
class Entry:
    """What a participant's books say of a step: how often its action and its compensation took effect, and when first."""

    applied: int = 0
    undone: int = 0
    applied_at: float = 0.0
    undone_at: float | None = None
    is_tombstone: bool = False
    lied: bool = False


@dataclass(slots=True)
class History:
    """Everything that the checker judges, but for the database."""

    calls: dict[CallKey, list[Call]] = field(default_factory=dict)
    reports: dict[CallKey, list[Report]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    published: dict[str, Publication] = field(default_factory=dict)
    signals: dict[str, list[Signal]] = field(default_factory=dict)
    """By saga."""
    approvals: dict[str, list[Approval]] = field(default_factory=dict)
    """By saga."""
    held: set[AttemptKey] = field(default_factory=set)
    """What was not attempted for want of room, of workers or of health, and has not been asked for again since."""
    rooms: dict[CallKey, list[float]] = field(default_factory=dict)
    """When somebody was told that there is room for what was held."""
    was_held: set[AttemptKey] = field(default_factory=set)
    """All that ever was."""
    performed: set[AttemptKey] = field(default_factory=set)
    """What a participant began with."""
    handed: dict[AttemptKey, list[Handed]] = field(default_factory=dict)
    """To which workers tasks were given."""
    answered: dict[AttemptKey, float] = field(default_factory=dict)
    """Of which tasks workers told anything in their streams, and when they first did."""
    left: set[int] = field(default_factory=set)
    """Streams whose workers had said goodbye: they do nothing any more once these are over."""
    beats: dict[CallKey, list[Beat]] = field(default_factory=dict)
    waits: list[tuple[str, float, bool]] = field(default_factory=list)
    """For each wait that was answered with `settled`: the saga, when, and whether its log said so then."""
    books: dict[tuple[str, str], Entry] = field(default_factory=dict)
    """(saga, step) -> what its guarded participant did."""
    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    """How often coordinators had to do what is done only now and then: hold an attempt, hand out a task, forward it."""
    crowded: list[tuple[str, str]] = field(default_factory=list)
    """Sagas for which somebody was asked to do more than they take, or called against an operator's will, and how."""
    defects: list[str] = field(default_factory=list)
    """What no program should do, whatever the history: unhandled exceptions, violated constraints."""
    ended_at: float = 0.0
    unsettled: list[str] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    """What happened to coordinators and the database, and when."""
