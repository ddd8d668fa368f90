"""Ctrl-C while modules are imported."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ended_quietly_by_ctrl_c() -> Iterator[None]:
    """Lets Ctrl-C end the process at once and without a traceback, as a shell expects, during imports that take a while.

    If Ctrl-C raised an exception, the exception would come up in the middle of a module, which might turn it into another one.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
