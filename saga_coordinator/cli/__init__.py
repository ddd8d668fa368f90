"""The program `saga-coordinator`.

`program` holds the commands, `serving` those that run a coordinator or a database, `definitions` and `health` those that ask a
running one, `options` the flags that several share.
"""

import os


def main() -> None:
    """The entry point. gRPC's own log, on standard error, would stand beside messages that say the same in fewer words; it is
    told so before it is first imported."""
    _open_standard_streams()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from saga_coordinator.cli.program import run  # noqa: PLC0415

    run()


def _open_standard_streams() -> None:
    """Where one was closed, the next file or socket would get its number, and what others write to it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
