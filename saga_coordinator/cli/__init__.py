"""The program `saga-coordinator`: its commands, and how each of them ends.

`program` holds the commands, `serving` those that run a coordinator or a database, `definitions` and `health` those that ask a
running one, `options` the flags that several share.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


def main() -> None:
    """The entry point. gRPC's own log, on standard error, would stand beside messages that say the same in fewer words; it is
    told so before it is first imported."""
    _open_standard_streams()
    if sys.argv[1:2] == ["health"] and _is_serving():
        sys.exit(0)
    if sys.argv[1:2] == ["serve"]:
        # It asks for the participants file to be read again, which the start does: it must not end what has not begun.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with ended_quietly_by_ctrl_c():
        from saga_coordinator.cli.program import run  # noqa: PLC0415

    run()


def _is_serving() -> bool:
    """Answers the probe of a container without importing the program, where the answer is the usual one."""
    from saga_coordinator.cli import probe  # noqa: PLC0415

    if not probe.is_serving(sys.argv[2:], os.environ.get("SAGA_ADDRESSES")):
        return False
    try:
        print("SERVING", flush=True)  # without click, which costs more than all of this
    except OSError:  # nobody reads it: the command itself knows how to end then
        return False
    return True


@contextlib.contextmanager
def ended_quietly_by_ctrl_c() -> Iterator[None]:
    """For imports that take a while: Ctrl-C ends the process there and then, as a shell expects, without a traceback.

    As an exception it would come up in the middle of some module, which may turn it into another one.
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


def _open_standard_streams() -> None:
    """Where one was closed, the next file or socket would get its number, and what others write to it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
