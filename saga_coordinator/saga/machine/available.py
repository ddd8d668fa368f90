"""What a saga's state says to every act of a person: allowed, or refused with the reason and with the verb that would work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from saga_coordinator.saga.definition.model import Definition, Operation
from saga_coordinator.saga.machine.decide import answer_now
from saga_coordinator.saga.machine.inputs import (
    AbandonAsked,
    Asked,
    CancelAsked,
    Finding,
    PauseAsked,
    ResolveAsked,
    ResumeAsked,
    RetryAsked,
    SkipAsked,
)
from saga_coordinator.saga.machine.place import Node, nodes
from saga_coordinator.saga.machine.state import SagaState
from saga_coordinator.saga.machine.step_state import StepState, has_standing_effect
from saga_coordinator.saga.machine.transitions import ENDS, StepStatus
from saga_coordinator.saga.words.act import Act, Subject, SubjectKind, Verb
from saga_coordinator.saga.words.errors import Refusal
from saga_coordinator.saga.words.immutable import immutable

STEPS_MAX = 100
"""The most steps whose acts are told."""


@immutable
class AvailableAct:
    """An act, and why it is refused now; `refusal` is empty if it is allowed. `step` is empty for an act on the whole saga."""

    verb: Verb
    step: str = ""
    finding: Finding | None = None
    refusal: str = ""


def available_acts(definition: Definition, state: SagaState, now: float) -> list[AvailableAct]:
    """The acts on the saga as a whole, and those on each step about which a person may want to do something."""
    act = Act("", Verb.RETRY_STEP, Subject(SubjectKind.SAGA, state.saga_id))

    def told(verb: Verb, asked: Asked, step: str = "", finding: Finding | None = None) -> AvailableAct:
        answer = answer_now(definition, state, asked, now)
        refusal = answer.message if isinstance(answer, Refusal) else ""
        return AvailableAct(verb, step, finding, refusal)

    whole: list[tuple[Verb, Callable[[Act], Asked]]] = [
        (Verb.PAUSE_SAGA, PauseAsked),
        (Verb.RESUME_SAGA, ResumeAsked),
        (Verb.RETRY_STEP, lambda made: RetryAsked("", made)),
        (Verb.CANCEL_SAGA, lambda _: CancelAsked("")),
        (Verb.ABANDON_SAGA, AbandonAsked),
    ]
    found = [told(verb, make(act)) for verb, make in whole]
    for key, _, _ in islice(_of_interest(definition, state), STEPS_MAX):
        found.append(told(Verb.RETRY_STEP, RetryAsked(key, act), key))
        found.append(told(Verb.SKIP_STEP, SkipAsked(key, None, act), key))
        found += (
            told(Verb.RESOLVE_STEP, ResolveAsked(key, finding, None, act), key, finding)
            for finding in Finding
        )
    return found


def _of_interest(definition: Definition, state: SagaState) -> Iterator[Node]:
    """The instances that have failed, are under way, or have an effect that a saga on its way back has not undone."""
    if state.status in ENDS:
        return
    for node in nodes(definition, state):
        step = state.step(node.key)
        if isinstance(node.step.action, Operation) and _is_of_interest(node, state, step):
            yield node


def _is_of_interest(node: Node, state: SagaState, step: StepState) -> bool:
    is_standing = state.has_turned and has_standing_effect(node.step, step)
    return step.status is StepStatus.FAILED or step.is_open or is_standing
