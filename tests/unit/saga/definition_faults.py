"""What is told of definitions that are none, for the tests of everything that finds faults in them."""

from __future__ import annotations

from typing import Any

import pytest

from saga_coordinator.saga.definition.parsing import parse_definition
from saga_coordinator.saga.words.errors import InvalidDefinition


def faults(*steps: Any, **fields: Any) -> dict[str, str]:
    """The descriptions by path for a definition of these steps."""
    return faults_of({"name": "order", "steps": list(steps), **fields})


def faults_of(source: Any) -> dict[str, str]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_definition(source)
    return {fault.path: fault.description for fault in caught.value.faults}
