"""Holds the books against what was promised. Each check is named after the promise of docs/concepts.md that it belongs to.

It knows the contract, the log's words and the table of transitions, and nothing of the engine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proof.torture.evidence import Call, Effect, Entry, Evidence, Row
from proof.violation import Violation
from saga_coordinator.saga.machine.transitions import ENDS, SETTLED

ACTION, COMPENSATION = "action", "compensation"
CLOCK_SECONDS = 0.05
"""What two readings of one machine's clock may differ by, being taken a little before and after what they stand for."""

_DECIDING = {
    "attempt_succeeded",
    "attempt_refused",
    "attempt_unknown",
    "attempt_unresolved",
    "attempt_pending",
    "attempt_held",
    "nothing_to_undo",
}


def judge(evidence: Evidence) -> list[Violation]:
    """Everything that does not add up; nothing means that the promises were kept."""
    found = [*_of_clients(evidence), *_of_keys(evidence)]
    for saga_id, row in evidence.rows.items():
        case = _Case(
            row,
            evidence.logs.get(saga_id, ()),
            evidence.calls.get(saga_id, ()),
            evidence.effects.get(saga_id, ()),
            evidence.before[row.definition],
        )
        found += [Violation(promise, saga_id, what) for promise, what in case.faults(evidence.living)]
    for saga_id in sorted((evidence.calls.keys() | evidence.effects.keys()) - evidence.rows.keys()):
        found.append(Violation("P1", saga_id, "a participant was called for it, but there is no such saga"))
    return found


def _of_clients(evidence: Evidence) -> Iterator[Violation]:
    rows_by_key: dict[str, list[Row]] = defaultdict(list)
    for row in evidence.rows.values():
        rows_by_key[row.start_key].append(row)
    wished = {wish.start_key for wish in evidence.wishes}
    for start_key in rows_by_key.keys() - wished:
        yield Violation("P9", rows_by_key[start_key][0].saga_id, f"nobody asked for {start_key}")
    for wish in evidence.wishes:
        rows = rows_by_key[wish.start_key]
        (saga_id, *_) = [*sorted(wish.saga_ids), ""]
        if len(rows) > 1 or len(wish.saga_ids) > 1:
            yield Violation(
                "P9", saga_id, f"{wish.start_key} started {len(rows)} sagas, answered {wish.saga_ids}"
            )
        if wish.is_accepted and (not rows or rows[0].saga_id != saga_id):
            yield Violation("P1", saga_id, f"{wish.start_key} was accepted, but there is no such saga")
        if wish.created > 1:
            yield Violation("P9", saga_id, f"{wish.start_key} was said to be created {wish.created} times")
        for row in rows[:1]:
            if wish.definition != row.definition:
                yield Violation(
                    "P9", saga_id, f"is a {row.definition}, but a {wish.definition} was asked for"
                )
            if wish.was_cancelled and row.status == "COMPLETED":
                yield Violation("P2", saga_id, "a cancel was accepted, and it completed all the same")
            if wish.settled_as - {row.status}:
                yield Violation("P2", saga_id, f"a client was told {wish.settled_as}, but it is {row.status}")


def _of_keys(evidence: Evidence) -> Iterator[Violation]:
    applied = Counter(effect.key for effects in evidence.effects.values() for effect in effects)
    for key, times in applied.items():
        if times > 1:
            yield Violation("P5", key.partition("/")[0], f"the key {key} was applied {times} times")
    for key in evidence.mixed_inputs:
        yield Violation("P5", "", f"two attempts with one key carried different inputs: {key}")


@dataclass(frozen=True, slots=True)
class _Case:
    """One saga. `faults` gives pairs of a promise and what is wrong."""

    row: Row
    log: Sequence[Entry]
    calls: Sequence[Call]
    effects: Sequence[Effect]
    before: Mapping[str, frozenset[str]]

    def faults(self, living: frozenset[str]) -> Iterator[tuple[str, str]]:
        yield from self._of_the_row(living)
        yield from self._of_the_log()
        yield from self._of_effects()
        yield from self._of_calls()
        yield from self._of_order()
        yield from self._of_overlap()

    def _of_the_row(self, living: frozenset[str]) -> Iterator[tuple[str, str]]:
        row = self.row
        if row.status not in SETTLED:
            yield "P1", f"is still {row.status}, owner {row.owner}"
        if row.owner is not None and (row.status in SETTLED or row.owner not in living):
            yield "P1", f"is {row.status} and belongs to {row.owner}, who does not drive it"
        if row.status in SETTLED and row.has_wake_at:
            yield "P1", f"is {row.status}, but has a time to wake"
        if row.has_ended_at != (row.status in ENDS):
            yield "P1", f"is {row.status}, and its time of end says otherwise"
        if row.status in SETTLED and (row.failure_code is None) == (
            row.status in {"COMPENSATED", "NEEDS_ATTENTION"}
        ):
            yield "P12", f"is {row.status}, with failure {row.failure_code}"

    def _of_the_log(self) -> Iterator[tuple[str, str]]:
        """It has no gaps (P8); what its words come to is for `replay`."""
        for position, entry in enumerate(self.log, start=1):
            if entry.sequence != position:
                yield "P8", f"entry {entry.sequence} is at position {position} of the log"

    def _of_effects(self) -> Iterator[tuple[str, str]]:
        standing = {effect.step for effect in self.effects if effect.undone_by is None}
        for effect in self.effects:
            if effect.key != f"{self.row.saga_id}/{effect.step}/{ACTION}":
                yield "P5", f"an effect of {effect.step} bears the key {effect.key}"
            if effect.undone_by not in (None, f"{self.row.saga_id}/{effect.step}/{COMPENSATION}"):
                yield "P5", f"the effect of {effect.step} was undone by {effect.undone_by}"
        match self.row.status:
            case "COMPLETED" if standing != self.before.keys():
                yield "P2", f"completed, but what stands is {sorted(standing)} of {sorted(self.before)}"
            case "COMPENSATED" if standing:
                yield "P2", f"compensated, but {sorted(standing)} stand"
            case "NEEDS_ATTENTION" | "ABANDONED" if not standing <= set(self.row.remaining):
                yield "P2", f"{sorted(standing)} stand, but only {self.row.remaining} are listed"
            case _:
                pass
        if self.row.status not in {"NEEDS_ATTENTION", "ABANDONED"} and self.row.remaining:
            yield "P2", f"is {self.row.status} and lists {self.row.remaining}"

    def _of_calls(self) -> Iterator[tuple[str, str]]:
        """Each call bears its operation's key (P5), and an entry that justifies it was there before (P6)."""
        intents: dict[tuple[str | None, str | None, int], float] = {}
        held = set()
        for entry in self.log:
            attempt = entry.step, entry.operation, entry.attempt
            if entry.type == "attempt_held":
                held.add(attempt)
            elif (
                entry.type == "attempt_started"
            ):  # a held attempt's number may have been given back and is taken anew
                held.discard(attempt)
                intents[attempt] = entry.recorded_at
        for call in self.calls:
            what = f"attempt {call.attempt} of {call.operation} {call.step}"
            key = f"{self.row.saga_id}/{call.step}/{call.operation}"
            if {call.key, call.header_key} != {key}:
                yield "P5", f"{what} bore the keys {call.key} and {call.header_key}"
            if call.operation == COMPENSATION:
                action_key = f"{self.row.saga_id}/{call.step}/{ACTION}"
                if call.action_key != action_key or call.receipt not in (None, action_key):
                    yield "P5", f"{what} undoes {call.action_key} with receipt {call.receipt}"
            committed_at = intents.get((call.step, call.operation, call.attempt))
            if committed_at is None or committed_at > call.arrived_wall + CLOCK_SECONDS:
                yield "P6", f"{what} was called, and its intent was committed {committed_at}"
            if (call.step, call.operation, call.attempt) in held:
                yield "P6", f"{what} was called, and the log says that it was held and not made"

    def _of_order(self) -> Iterator[tuple[str, str]]:
        """By the participants' own records: forward along the dependencies, and backward against them (P3)."""
        applied = {effect.step: effect.applied_at for effect in self.effects}
        undoing: dict[str, float] = {}
        undone: dict[str, float] = {}
        for call in self.calls:
            if call.operation == COMPENSATION:
                undoing[call.step] = min(call.arrived_at, undoing.get(call.step, call.arrived_at))
                if call.answer in {"OK", "NOT_FOUND"} and call.ended_at is not None:
                    undone[call.step] = min(call.ended_at, undone.get(call.step, call.ended_at))
        for step in self.before:
            for other in self.before[step]:
                if step in applied and not (other in applied and applied[other] <= applied[step]):
                    yield "P3", f"{step} took effect before {other}, which it depends on"
                if other not in undoing:
                    continue
                if step in undoing and undone.get(step, float("inf")) > undoing[other]:
                    yield "P3", f"the compensation of {other} began before that of {step} had ended"
                stood = [effect for effect in self.effects if effect.step == step]
                if any(
                    effect.applied_at < undoing[other] < (effect.undone_at or float("inf"))
                    for effect in stood
                ):
                    yield "P3", f"the compensation of {other} began while {step} stood"

    def _of_overlap(self) -> Iterator[tuple[str, str]]:
        """No compensation starts while an attempt of its action may be in flight (P4), nor two attempts of one operation."""
        open_until: dict[tuple[str | None, str | None], float] = {}
        for entry in self.log:
            place = (entry.step, entry.operation)
            if entry.type == "attempt_started":
                if open_until.get(place, 0.0) == float("inf"):
                    yield (
                        "P4",
                        f"attempt {entry.attempt} of {entry.operation} {entry.step} began before the one before ended",
                    )
                action_until = open_until.get((entry.step, ACTION), 0.0)
                if entry.operation == COMPENSATION and entry.recorded_at < action_until - CLOCK_SECONDS:
                    seconds = action_until - entry.recorded_at
                    yield (
                        "P4",
                        f"{entry.step} was compensated {seconds:.3f} s before its action was surely over",
                    )
                open_until[place] = float("inf")
            elif entry.type in _DECIDING:
                # One whose end nobody has seen may go on until then.
                until = float(entry.body.get("settles_at", 0.0))
                known = open_until.get(place, 0.0)
                open_until[place] = until if known == float("inf") else max(known, until)
