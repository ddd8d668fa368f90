"""The program `saga-coordinator`: its commands, and how each of them ends.

`program` holds the group of commands. `serving` has the commands that run a coordinator or a database, `definitions` and
`health` the commands that ask a running coordinator. `options` has the flags that several commands share.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


def main() -> None:
    """The entry point. It turns off gRPC's own log before gRPC is imported, because that log would repeat our messages on
    standard error.
    """
    _open_standard_streams()
    if sys.argv[1:2] == ["health"] and _is_serving():
        sys.exit(0)
    if sys.argv[1:2] == ["serve"]:
        # SIGHUP asks to read the participants file again. The start reads it anyway, so the signal must not end a program that
        # is still starting.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with ended_quietly_by_ctrl_c():
        from saga_coordinator.cli.program import run  # noqa: PLC0415

    run()


def _is_serving() -> bool:
    """Answers the health probe of a container without importing the program, if the answer is SERVING."""
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
    """Lets Ctrl-C end the process at once and without a traceback, as a shell expects, during imports that take a while.

    If Ctrl-C raised an exception, the exception would come up in the middle of a module, which might turn it into another
    exception.
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
    """Opens standard streams that were closed. Otherwise the next file or socket would get the number of a closed stream, and
    receive everything that is written to that stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
