"""No garbage collection looks at everything that is alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from saga_coordinator import collector


@pytest.fixture
def _tuned() -> Iterator[None]:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    collector.tune()
    yield
    gc.set_threshold(*before)
    gc.callbacks[:] = callbacks
    gc.unfreeze()


@pytest.mark.usefixtures("_tuned")
def test_much_that_outlives_a_full_collection_is_never_looked_at_again() -> None:
    little: list[list[int]] = [[] for _ in range(collector.KEPT_OBJECTS_MAX // 2)]
    gc.collect()
    assert len(gc.get_objects(generation=2)) >= len(little)
    much: list[list[int]] = [[] for _ in range(2 * collector.KEPT_OBJECTS_MAX)]
    gc.collect()
    assert len(gc.get_objects(generation=2)) <= collector.KEPT_OBJECTS_MAX < len(much)


@pytest.mark.usefixtures("_tuned")
def test_however_much_lives_each_collection_looks_at_little() -> None:
    looked_at: list[int] = []

    def note(phase: str, collection: dict[str, int]) -> None:
        if phase == "start":
            oldest = collection["generation"]
            looked_at.append(sum(len(gc.get_objects(generation=each)) for each in range(oldest + 1)))

    gc.callbacks.append(note)
    kept = [[each] for each in range(300_000)]
    gc.callbacks.remove(note)
    assert len(looked_at) > len(kept) / collector.YOUNG_OBJECTS_MAX / 2
    assert max(looked_at) < 3 * collector.KEPT_OBJECTS_MAX
