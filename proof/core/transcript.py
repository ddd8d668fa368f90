"""Transcripts: a definition, what happens to one saga of it, and what the core makes of each happening.

A file is prose, a definition in YAML between two lines of dashes, and then happenings, each followed by the decision:

    > charge action refused FAILED_PRECONDITION card declined
      + an entry that is appended
      ! an effect that is performed once the entries are committed
      = where the saga and its touched steps stand now

What people and services ask of a saga can be told after `> ask`, as the JSON in which coordinators tell one another: a new verb
needs no word of its own. An event's correlation is `-` for none. Lines that begin with `#` are prose too. Time stands still but
for `> wait 3s` and `> timer`, which moves it to the timer's due time. The jitter's draw is always 0.5, so a pause is half of what
the policy allows.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import yaml

from proof.core.story import Story
from saga_coordinator.engine.letters import asked_in
from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.answers import NotApplied
from saga_coordinator.saga.machine.effects import (
    Decision,
    Effect,
    Finish,
    GoOn,
    Invoke,
    LookForEvent,
    LookForRoom,
    SetTimer,
)
from saga_coordinator.saga.machine.entries import Entry, StepEntry
from saga_coordinator.saga.machine.inputs import (
    ApprovalDecided,
    CancelAsked,
    EventArrived,
    RecallAsked,
    RoomFound,
)
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.stored_entry import encode, entry_type
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    Cause,
    Held,
    Outcome,
    Pending,
    Succeeded,
    Unknown,
    outcome_of_failure,
)

FENCE = "-----"


def rewrite(text: str) -> str:
    """The same transcript with the decisions that the core makes today."""
    prose, source, happenings = text.split(f"{FENCE}\n")
    teller = _Teller(source)
    told = []
    for line in happenings.splitlines():
        if line.startswith("> "):
            told += ["", line, *teller.tell(line.removeprefix("> "))]
        elif line.startswith("#"):
            told += [*([] if told and told[-1].startswith("#") else [""]), line]
    return "\n".join([f"{prose}{FENCE}\n{source}{FENCE}", *told, ""])


def told(text: str) -> Iterator[tuple[dict[str, Any], Story]]:
    """The definition of a transcript and its story, after each happening anew: the same object, told on."""
    _, source, happenings = text.split(f"{FENCE}\n")
    teller = _Teller(source)
    for line in happenings.splitlines():
        if line.startswith("> "):
            deque(teller.tell(line.removeprefix("> ")), maxlen=0)
            assert teller.story is not None
            yield yaml.safe_load(source), teller.story


class _Teller:
    def __init__(self, source: str) -> None:
        self._definition = parse_definition(yaml.safe_load(source))
        self.story: Story | None = None

    def tell(self, happening: str) -> Iterator[str]:
        words = happening.split()
        if words[0] == "start":
            self.story = Story(
                self._definition, payload=json.loads(happening.removeprefix("start") or "null")
            )
            self.story.jitter = 0.5
            decision = self.story.last
        else:
            assert self.story is not None, "a story begins with `> start`"
            if words[0] == "wait":
                self.story.now += float(words[1].removesuffix("s"))
                return
            decision = self._happens(self.story, words)
        yield from self._decided(decision)

    def _happens(self, story: Story, words: list[str]) -> Decision:
        match words:
            case ["timer"]:
                return story.timer_fires()
            case ["cancel", name, *reason]:
                return story.happens(CancelAsked(" ".join(reason), name.removesuffix(":")))
            case ["adopt", name]:
                return story.adopted(name)
            case ["room", step, kind]:
                return story.happens(RoomFound(step, OperationKind(kind)))
            case ["recall"]:
                return story.happens(
                    RecallAsked(Cause("PARENT_FAILED", "the saga that started this one failed"))
                )
            case ["event", identity, name, correlation, *payload]:
                told = json.loads(" ".join(payload) or "null")
                return story.happens(EventArrived(identity, name, correlation.strip("-"), told))
            case ["approve" | "reject" as answer, step, name, *comment]:
                return story.happens(
                    ApprovalDecided(step, answer == "approve", name.removesuffix(":"), " ".join(comment))
                )
            case ["ask", *body]:
                return story.happens(asked_in(json.loads(" ".join(body))))
            case ["report", step, kind, *outcome]:
                return story.reported(step, _outcome(outcome), OperationKind(kind))
            case [step, kind, *outcome]:
                return story.ends(step, _outcome(outcome), OperationKind(kind))
            case _:
                raise ValueError(f"no such happening: {' '.join(words)}")

    def _decided(self, decision: Decision) -> Iterator[str]:
        assert self.story is not None
        if isinstance(decision.answer, Refusal):
            yield f"  refused: {decision.answer}"
        elif isinstance(decision.answer, NotApplied):
            yield "  not applied"
        yield from (f"  + {_entry(entry)}" for entry in decision.entries)
        yield from (f"  ! {_effect(effect, self.story.now)}" for effect in decision.effects)
        yield f"  = {_state(decision.state)}"


def _outcome(words: list[str]) -> Outcome:
    match words:
        case ["succeeded", *payload]:
            return Succeeded(json.loads(" ".join(payload) or "null"))
        case ["pending"]:
            return Pending()
        case ["held", delay, *why]:
            return Held(Cause("HELD", " ".join(why)), float(delay.removesuffix("s")))
        case ["unknown" | "refused" as told, status, *message]:
            outcome = outcome_of_failure(status, " ".join(message))
            assert isinstance(outcome, Unknown) == (told == "unknown"), f"{status} does not mean {told}"
            return outcome
        case _:
            raise ValueError(f"no such outcome: {' '.join(words)}")


def _entry(entry: Entry) -> str:
    stored = encode(entry)
    head = (
        f"{entry_type(entry)} {entry.step} {entry.operation} {entry.attempt}"
        if isinstance(entry, StepEntry)
        else entry_type(entry)
    )
    return " ".join(
        [
            head,
            *(
                f"{name}={_value(_as_given(entry, name, value))}"
                for name, value in stored.body.items()
                if name != "labels"
            ),
        ]
    )


def _as_given(entry: Entry, name: str, stored: Any) -> Any:
    """An instant or a duration, which is stored as a whole number where it is one; any other value as it is stored."""
    given = getattr(entry, name, None)
    return given if isinstance(given, float) else stored


def _value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() >= {"code", "message"}:
        whose = "".join(f", {name} {value[name]}" for name in ("step", "requested_by") if name in value)
        return f"({value['code']}: {value['message']}{whose})"
    if isinstance(value, float):
        return f"{value:g}s"
    return value if isinstance(value, str) else json.dumps(value)


def _effect(effect: Effect, now: float) -> str:
    match effect:
        case Invoke():
            where = f"{effect.participant}/{effect.method}"
            what = f"{effect.step} {effect.operation} {effect.attempt}"
            if effect.is_poll:
                return f"ask again about {what} at {where} key={effect.idempotency_key}"
            return f"invoke {what} at {where} key={effect.idempotency_key} input={json.dumps(effect.input)}"
        case LookForRoom(_, step, operation, participant, _, due_at):
            return f"look for room for {step} {operation} at {participant} from {due_at:g}s on"
        case LookForEvent(_, event, correlation, look_back_seconds):
            back = f" from {look_back_seconds:g}s before the start" if look_back_seconds else ""
            return f"look for event {event} with correlation {correlation}{back}"
        case SetTimer(due_at):
            return f"timer at {due_at:g}s, in {due_at - now:g}s"
        case GoOn():
            return "go on at once"
        case Finish(status):
            return f"finish {status}"


def _state(state: SagaState) -> str:
    steps = [f"{name} {step.status} effect {step.effect.name}" for name, step in state.steps.items()]
    remaining = [f"remaining: {', '.join(state.remaining)}"] if state.remaining else []
    return "; ".join([state.status, *steps, *remaining])
