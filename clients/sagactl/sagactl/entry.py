"""The entry point. It imports nothing that takes long before Ctrl-C is taken care of."""

from __future__ import annotations

from sagactl.interrupts import ended_quietly_by_ctrl_c


def main() -> None:
    """Runs the command line that the arguments say, and exits."""
    with ended_quietly_by_ctrl_c():
        from sagactl import program  # noqa: PLC0415

    program.main()
