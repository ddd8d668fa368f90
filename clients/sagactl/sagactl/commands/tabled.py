"""The commands that are nothing but a line in the table of verbs."""

from __future__ import annotations

import click

from sagactl.acting import VerbGroup, command_of
from sagactl.verbs import verbs_of


@click.group(cls=VerbGroup, verbs="bulk")
def bulk() -> None:
    """Acts on many sagas at once, which the server keeps and carries out."""


_beside = verbs_of("")
stuck = command_of(_beside["stuck"])
ledger = command_of(_beside["ledger"])
audit = command_of(_beside["audit"])
can_i = command_of(_beside["can-i"])
