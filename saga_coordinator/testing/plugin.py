"""The pytest plugin: the fixture `saga`. Nothing else is imported until a test asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from saga_coordinator.testing.participants import Participants
    from saga_coordinator.testing.runs import Run


class SagaFixture:
    """The fixture's value: `participants`, which are empty at the start of each test, and the methods that run sagas with them.

    Files that are named by a relative path are looked for beside the test, then in the working directory.
    """

    def __init__(self, folder: Path) -> None:
        from saga_coordinator.testing.participants import Participants  # noqa: PLC0415  # not for those without sagas

        self.participants: Participants = Participants()
        self._folder = folder

    def __call__(
        self, definition: str | Path | Mapping[str, Any], saga_input: Any = None, **more: Any
    ) -> Run:
        """Does what `saga_coordinator.testing.rehearse` does, with these participants."""
        from saga_coordinator.testing.runs import rehearse  # noqa: PLC0415

        return rehearse(self._found(definition), saga_input, self.participants, **more)

    def begin(self, definition: str | Path | Mapping[str, Any], saga_input: Any = None, **more: Any) -> Run:
        """Does what `saga_coordinator.testing.begin` does, with these participants."""
        from saga_coordinator.testing.runs import begin  # noqa: PLC0415

        return begin(self._found(definition), saga_input, self.participants, **more)

    def _found(self, definition: str | Path | Mapping[str, Any]) -> str | Path | Mapping[str, Any]:
        if isinstance(definition, Mapping):
            return definition
        beside = self._folder / definition
        return beside if beside.exists() else definition


@pytest.fixture
def saga(request: pytest.FixtureRequest) -> SagaFixture:
    """Runs sagas against plain functions, in milliseconds; see saga_coordinator.testing."""
    return SagaFixture(request.path.parent)
