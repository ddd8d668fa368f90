"""Reports what a simulation found, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from saga_coordinator.rehearsal.answers import Answers
from saga_coordinator.rehearsal.rehearse import STARTS_AT, Call
from saga_coordinator.rehearsal.scenarios import WAITING, Mishap, Simulation, Story
from saga_coordinator.saga.machine.transitions import SagaStatus
from saga_coordinator.saga.words.outcome import Cause, Outcome, Pending, Refused, Succeeded, Unknown

_ENDS = (
    SagaStatus.COMPLETED,
    SagaStatus.COMPENSATED,
    SagaStatus.NEEDS_ATTENTION,
    WAITING,
)
_CALLS_SHOWN = 12


def report_lines(simulation: Simulation, *, in_pairs: bool) -> Iterator[str]:
    """The report for a terminal: every single failure in a table, and the pairs of failures that are worth reading."""
    stories = simulation.stories
    singles = [story for story in stories if _is_single(story)]
    yield from _table(singles)
    if in_pairs:
        pairs = [story for story in stories if not _is_single(story)]
        yield ""
        yield f"Pairs of failures: {_counted(pairs)}"
    yield from _needing_people(stories)
    yield from _broken(stories)
    if simulation.unreached:
        yield ""
        yield f"Not reached: {', '.join(simulation.unreached)}. Give an --input or --output-of that leads there."
    if simulation.untried:
        yield ""
        yield "Never tried, so nothing is known of it; give an --input or --output-of that leads there:"
        yield from (f"  that {way}" for way in simulation.untried)
    if simulation.scenarios_left:
        yield ""
        yield f"Cut: {simulation.scenarios_left} more scenarios were not rehearsed; raise --limit to have them, too."
    yield ""
    untried = f"; {len(simulation.untried)} never tried" if simulation.untried else ""
    yield f"{len(stories)} scenarios: {_counted(stories)}{untried}"


def _is_single(story: Story) -> bool:
    """Tells whether only one thing goes wrong. A failure that only makes the saga compensate a step does not count."""
    return len(story.scenario.faults) < 2 or story.scenario.is_cause_added


def _counted(stories: Sequence[Story]) -> str:
    counts = Counter(story.end for story in stories)
    parts = [f"{counts[end]} {end}" for end in _ENDS if counts[end]]
    broken = sum(story.is_broken for story in stories)
    return ", ".join([*parts, f"{broken} broken" if broken else "no promise broken, no expression failed"])


def _table(stories: Sequence[Story]) -> Iterator[str]:
    rows = [
        (str(story.scenario), story.end + ("!" if story.is_broken else ""), calls_text(story))
        for story in stories
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for what, end, calls in (("WHAT GOES WRONG", "END", "CALLS"), *rows):
        yield f"{what:{widths[0]}}  {end:{widths[1]}}  {calls}".rstrip()


def calls_text(story: Story) -> str:
    """The calls in order, with consecutive calls of one operation together: `reserve, charge x5, undo charge, undo reserve`."""
    runs: list[tuple[str, int]] = []
    for call in story.calls:
        if runs and runs[-1][0] == call.name:
            runs[-1] = (call.name, runs[-1][1] + 1)
        else:
            runs.append((call.name, 1))
    texts = [name if count == 1 else f"{name} x{count}" for name, count in runs]
    if len(texts) > _CALLS_SHOWN:
        texts = [*texts[:3], f"... {len(texts) - _CALLS_SHOWN + 1} more ...", *texts[4 - _CALLS_SHOWN :]]
    return ", ".join(texts)


def _needing_people(stories: Sequence[Story]) -> Iterator[str]:
    parked = [story for story in stories if story.needs_people]
    if not parked:
        return
    yield ""
    yield "People are needed when:"
    for story in parked:
        # A pair is shown only if neither of its failures alone is enough.
        if _is_single(story) or not _is_foretold(story, parked):
            yield f"  {story.scenario}"
            yield f"      {_why_people(story)}"


def _why_people(story: Story) -> str:
    if story.end == WAITING:
        return "it waits for ever; a timeout or a deadline would end that"
    if not story.remaining:
        return "no effect stands, but somebody has to decide"
    return f"the effect stands of: {', '.join(story.remaining)}"


def _is_foretold(story: Story, parked: Sequence[Story]) -> bool:
    """Tells whether some of this story's faults were enough for the same end in another story."""
    mine = set(story.scenario.faults)
    return any(_is_single(other) and set(_decisive(other)) <= mine for other in parked if other is not story)


def _decisive(story: Story) -> tuple[Mishap, ...]:
    return story.scenario.faults[-1:] if story.scenario.is_cause_added else story.scenario.faults


def _broken(stories: Sequence[Story]) -> Iterator[str]:
    broken = [story for story in stories if story.is_broken]
    if not broken:
        return
    yield ""
    yield "Broken:"
    for story in broken:
        yield f"  {story.scenario}"
        yield from (f"      {breach}" for breach in story.breaches)
        yield from (f"      {problem}" for problem in story.problems)


def report_json(name: str, simulation: Simulation, answers: Answers, *, is_made_up: bool) -> dict[str, Any]:
    """The whole report. Instants are seconds since the saga's start."""
    stories = simulation.stories
    ends = Counter(story.end for story in stories)
    return {
        "definition": name,
        "input": answers.input.value(),
        "input_is_made_up": is_made_up,
        "outputs": {step: shape.value() for step, shape in answers.outputs.items()},
        "summary": {
            "scenarios": len(stories),
            "ends": {str(end): ends[end] for end in _ENDS if ends[end]},
            "broken": sum(story.is_broken for story in stories),
            "not_rehearsed": simulation.scenarios_left,
            "steps_not_reached": list(simulation.unreached),
            "never_tried": [str(way) for way in simulation.untried],
        },
        "scenarios": [_story_json(story) for story in stories],
    }


def _story_json(story: Story) -> dict[str, Any]:
    failure = story.failure
    return {
        "faults": [{"step": fault.key, "fault": str(fault.kind)} for fault in story.scenario.faults],
        "assumed": story.scenario.variant,
        "end": str(story.end),
        "seconds": round(story.seconds, 3),
        "failure": failure and _cause_json(failure),
        "calls": [_call_json(call) for call in story.calls],
        "remaining": list(story.remaining),
        "breaches": [str(breach) for breach in story.breaches],
        "problems": list(story.problems),
    }


def _cause_json(cause: Cause) -> dict[str, str]:
    return {"code": str(cause.code), "message": cause.message, "step": cause.step}


def _call_json(call: Call) -> dict[str, Any]:
    return {
        "at": round(call.started_at - STARTS_AT, 3),
        "step": call.step,
        "operation": str(call.invoke.operation),
        "attempt": call.invoke.attempt,
        "participant": call.invoke.participant,
        "method": call.invoke.method,
        "idempotency_key": call.invoke.idempotency_key,
        "input": call.invoke.input,
        "outcome": outcome_name(None if call.is_lost else call.told),
    }


def outcome_name(outcome: Outcome | None) -> str:
    """The outcome's name as in docs/concepts.md; UNHEARD if the coordinator went down before the outcome came."""
    match outcome:
        case Succeeded():
            return "SUCCEEDED"
        case Refused():
            return "REFUSED"
        case Unknown():
            return "UNKNOWN"
        case Pending():
            return "PENDING"
        case _:
            return "UNHEARD"
