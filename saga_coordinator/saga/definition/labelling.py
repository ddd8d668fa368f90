"""The labels that a definition gives each of its sagas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga_coordinator.saga.definition.model import Definition
from saga_coordinator.saga.expressions.expression import as_text
from saga_coordinator.saga.words.errors import ExpressionError, Fault, InvalidRequest
from saga_coordinator.saga.words.json_object import text_problem
from saga_coordinator.saga.words.limits import LABEL_VALUE_CHARACTERS_MAX


def labels_of(definition: Definition, saga_id: str, given: Any, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a saga with the input `given`: the definition's labels, and the starter's, which have precedence.

    Raises:
        InvalidRequest: with a fault for each label that cannot be computed from this input, or is too long.
    """
    if not definition.labels:
        return dict(labels)
    scope = {"input": given, "saga": {"id": saga_id, "labels": labels}}
    faults: list[Fault] = []
    found: dict[str, str] = {}
    for name, template in definition.labels.items():
        if name in labels:
            continue
        try:
            text = as_text(template.render(scope), scope)
        except ExpressionError as error:
            faults.append(Fault("input", f"gives the label `{name}` no value: {error}"))
            continue
        if len(text) > LABEL_VALUE_CHARACTERS_MAX:
            message = (
                f"gives the label `{name}` {len(text)} characters; {LABEL_VALUE_CHARACTERS_MAX} is the limit"
            )
            faults.append(Fault("input", message))
        elif problem := text_problem(text):
            faults.append(Fault("input", f"gives the label `{name}` a value that {problem}"))
        found[name] = text
    if faults:
        raise InvalidRequest(faults)
    return {**found, **labels}
