"""Tunes Python's garbage collector, so that no collection stops the program for long.

Whatever is collected, every thread waits. A full collection looks at every object that is alive, 0.3 to 0.5 us each: ten thousand
sagas in memory would stop the program for a fifth of a second. So a collection looks only at what is recent:

- The young generations are collected while they are small.
- What outlives a full collection is looked at again by the next one, as long as it is little. Once it is more than
  `KEPT_OBJECTS_MAX` objects, the collector is told to leave it alone for good.

An object that is left alone is freed as soon as nothing refers to it, as ever. Only a cycle of such objects is never freed. The
program therefore ties no cycles among objects that live for long (`tests/integration/engine/test_no_cycles.py`).
"""

from __future__ import annotations

import gc
from typing import Any

YOUNG_OBJECTS_MAX = 2_000
"""The number of new objects, less the freed ones, after which the youngest are looked at: a millisecond."""
KEPT_OBJECTS_MAX = 10_000
"""The most objects that full collections look at again and again: about five milliseconds."""

_OLDEST = 2
_COLLECTIONS_BETWEEN = 1
"""The collections of a generation that are skipped before the next older generation is looked at, too."""


def tune() -> None:
    """Spares the objects that exist by now, because they live to the end, and sets the bounds for all that come."""
    gc.collect()
    gc.freeze()
    gc.collect()  # else Python would wait with the next full one for a quarter as many objects as this program has
    gc.set_threshold(YOUNG_OBJECTS_MAX, _COLLECTIONS_BETWEEN, _COLLECTIONS_BETWEEN)
    if _leave_alone not in gc.callbacks:
        gc.callbacks.append(_leave_alone)


def _leave_alone(phase: str, collection: dict[str, Any]) -> None:
    """Leaves what has outlived a full collection alone, if it is much. Python calls this around each collection."""
    if phase != "stop" or collection["generation"] < _OLDEST:
        return
    if len(gc.get_objects(generation=_OLDEST)) > KEPT_OBJECTS_MAX:
        gc.freeze()
