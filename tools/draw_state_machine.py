"""Draws docs/state_machine.md from the tables that the coordinator runs on.

python -m tools.draw_state_machine            write it
python -m tools.draw_state_machine --check    exit 1 when what is committed is not what would be written
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import grpc

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.machine.decide import HANDLERS, decide
from saga_coordinator.saga.machine.effects import Invoke
from saga_coordinator.saga.machine.entries import ENTRY_TYPES, Entry, OutcomeLate, StepEntry
from saga_coordinator.saga.machine.inputs import AttemptEnded, Input, StartRequested
from saga_coordinator.saga.machine.stored_entry import entry_type
from saga_coordinator.saga.machine.transitions import (
    ENDS,
    OPERATION_ALLOWED,
    SAGA_TRANSITIONS,
    STEP_TRANSITIONS,
    SagaStatus,
    StepStatus,
)
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import (
    Cause,
    Held,
    Outcome,
    Pending,
    Refused,
    Succeeded,
    Unknown,
    outcome_of_failure,
)

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "state_machine.md"

HEAD = """\
<!-- Drawn by `make generate` from saga_coordinator/saga; do not edit. -->

# The state machine

A saga's state is the fold of its log: each entry moves the saga or one of its steps along one row of the tables below. A pair
that has no row cannot happen; the coordinator would rather stop that saga than record it. [Concepts](concepts.md) has the words.
"""
OF_STEPS = """\
With its action as the present operation, and from the start of its compensation on. A step in a loop has as many instances as
there are items or passes, each with a key (`pay[3].transfer`) and a status of its own. Waits and blocks have no compensation:
the steps of a block are undone themselves. Beside the rows, the turn (`saga_failed`) moves steps to FAILED whose action is
between attempts, waits or runs a block; actions in flight are left to settle.
"""
OF_OUTCOMES = """\
What is known of the effect only grows, but for one case: when an attempt that was PENDING is reported REFUSED, its doubt goes,
and that of earlier attempts stays. NOT_FOUND answered to the compensation of an effect that is not CERTAIN is recorded as
`nothing_to_undo`: done.
"""
OF_INPUTS = """\
After its handler, whatever the new state allows is done: the next actions start, or the next compensations, or the saga ends.
`StartRequested` comes only when there is no saga yet.
"""


def draw() -> str:
    return "\n".join(
        [
            HEAD,
            "## A saga\n",
            _diagram(_saga_edges()),
            _unreached(SagaStatus, SAGA_TRANSITIONS.values()),
            _table(("status", "entry", "status after"), _saga_rows()),
            "## A step\n",
            OF_STEPS,
            *(_diagram(_step_edges(kind)) for kind in OperationKind),
            _unreached(StepStatus, [StepStatus.PENDING, *STEP_TRANSITIONS.values()]),
            _table(("status", "operation", "entry", "status after"), _step_rows()),
            f"Which operations may begin depends on the saga: {_allowed()}; in any other status none.\n",
            "## What an outcome does\n",
            "To a step's first attempt, when its retry policy allows another one:\n",
            _table(("outcome", "gRPC status", "of an action", "of a compensation"), _outcome_rows()),
            OF_OUTCOMES,
            "## What an input means\n",
            OF_INPUTS,
            _table(("input", *SagaStatus), _input_rows()),
            *(f"- `{name}`: {sentence}" for name, sentence in _handlers().items()),
            "",
            "## The entries\n",
            "Those about a step name its instance, operation and attempt too.\n",
            _table(("entry", "fields", "what it says"), _entry_rows()),
        ]
    )


def _allowed() -> str:
    return "; ".join(f"{status}: {_names(kinds)}" for status, kinds in OPERATION_ALLOWED.items())


# Diagrams.

Edge = tuple[str, str, str]


def _saga_edges() -> Iterator[Edge]:
    for (before, kind), after in SAGA_TRANSITIONS.items():
        yield before or "[*]", after, entry_type(kind)
    for status in SagaStatus:
        if status in ENDS and status in SAGA_TRANSITIONS.values():
            yield status, "[*]", ""


def _step_edges(operation: OperationKind) -> Iterator[Edge]:
    if operation is OperationKind.ACTION:
        yield "[*]", StepStatus.PENDING, ""
    for (before, kind, entry), after in STEP_TRANSITIONS.items():
        if kind is operation and entry is not OutcomeLate:
            yield before, after, entry_type(entry)


def _diagram(edges: Iterable[Edge]) -> str:
    merged: dict[tuple[str, str], list[str]] = {}
    for before, after, label in sorted(edges, key=lambda edge: edge[:2] != ("[*]", "PENDING")):
        merged.setdefault((before, after), []).append(label)
    lines = [
        f"    {before} --> {after}" + (f": {', '.join(labels)}" if any(labels) else "")
        for (before, after), labels in merged.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def _unreached(statuses: Iterable[str], reached: Iterable[str]) -> str:
    known = set(reached)
    names = [status for status in statuses if status not in known]
    return f"No entry leads to {_names(names)} yet.\n" if names else ""


# Tables.


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    heads = list(heads)
    return "\n".join([line(heads), line("---" for _ in heads), *(line(row) for row in rows), ""])


def _saga_rows() -> Iterator[tuple[str, ...]]:
    for (before, kind), after in SAGA_TRANSITIONS.items():
        yield before or "", f"`{entry_type(kind)}`", after


def _step_rows() -> Iterator[tuple[str, ...]]:
    for (before, operation, kind), after in STEP_TRANSITIONS.items():
        yield before, operation, f"`{entry_type(kind)}`", after


def _outcome_rows() -> Iterator[tuple[str, ...]]:
    refusing: list[str] = []
    unknown: list[str] = []
    for status in grpc.StatusCode:
        if status is not grpc.StatusCode.OK:
            meant = outcome_of_failure(status.name, "")
            (refusing if isinstance(meant, Refused) else unknown).append(status.name)
    cause = Cause("INTERNAL", "")
    for name, statuses, outcome in (
        ("SUCCEEDED", "OK", Succeeded()),
        ("REFUSED", ", ".join(refusing), Refused(cause)),
        ("UNKNOWN", f"{', '.join(unknown)}, and a broken connection", Unknown(cause)),
        ("PENDING", "OK, and the answer says so", Pending()),
        (
            "HELD",
            "none: the call was not made, for want of room or because the participant rests",
            Held(cause, 1.0),
        ),
    ):
        yield name, statuses, *(_consequence(kind, outcome) for kind in OperationKind)


def _consequence(kind: OperationKind, outcome: Outcome) -> str:
    """Asks the core itself: what becomes of a step whose first attempt of that operation ends so."""
    call = {"participant": "p"}
    names = ("it", "next")
    definition = parse_definition(
        {"name": "example", "steps": [{"name": name, "action": call, "compensation": call} for name in names]}
    )
    decision = decide(definition, None, StartRequested("saga", 1, None, {}), 0.0, 0.5)
    if kind is OperationKind.COMPENSATION:
        for name, ended in (("it", Succeeded()), ("next", Refused(Cause("FAILED_PRECONDITION", "")))):
            decision = decide(
                definition, decision.state, AttemptEnded(name, OperationKind.ACTION, 1, ended), 0.0, 0.5
            )
    decision = decide(definition, decision.state, AttemptEnded("it", kind, 1, outcome), 0.0, 0.5)
    step = decision.state.step("it")
    effect = f", effect {step.effect.name}" if kind is OperationKind.ACTION else ""
    calls = [effect_ for effect_ in decision.effects if isinstance(effect_, Invoke)]
    if step.pending_until:
        then = "; until it is reported, or `pending_timeout` passes"
    elif step.retry_at:
        then = "; retried with the same key"
    elif calls:
        then = "; the next step starts"
    else:
        then = f"; the saga is {decision.state.status}"
    return f"`{entry_type(decision.entries[0])}`: {step.status}{effect}{then}"


def _input_rows() -> Iterator[tuple[str, ...]]:
    for kind in get_args(Input):
        if kind is not StartRequested:
            yield kind.__name__, *(f"`{_handler_name(HANDLERS[status, kind])}`" for status in SagaStatus)


def _handlers() -> Mapping[str, str]:
    return {_handler_name(handler): _first_sentence(handler) for handler in HANDLERS.values()}


def _handler_name(handler: Callable[..., Any]) -> str:
    return handler.__name__.removeprefix("_")


def _entry_rows() -> Iterator[tuple[str, ...]]:
    for kind in ENTRY_TYPES:
        own = [each.name for each in fields(kind)]
        if kind in get_args(StepEntry):
            own = [name for name in own if name not in ("step", "operation", "attempt")]
        yield f"`{entry_type(kind)}`", ", ".join(f"`{name}`" for name in own), _first_sentence(kind)


def _first_sentence(documented: Callable[..., Any] | type[Entry]) -> str:
    text = " ".join((documented.__doc__ or "").split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw docs/state_machine.md.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the drawing is stale"
    )
    is_check = parser.parse_args().check
    drawing = draw()
    if not is_check:
        DRAWING.write_text(drawing, encoding="utf-8")
        return 0
    if DRAWING.is_file() and DRAWING.read_text(encoding="utf-8") == drawing:
        return 0
    print(
        f"{DRAWING.relative_to(ROOT)} is not what the tables say; draw it again with `make generate`",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
