"""Completes arguments with live values. Every command names these functions, so this module itself loads next to nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from sagactl.invocation import invocation_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _live(kind: str) -> Complete:
    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415  # only a shell asks

        from sagactl.live_values import values  # noqa: PLC0415

        with contextlib.suppress(Exception):
            found = values(invocation_of(ctx), kind)
            return [CompletionItem(value, help=said or None) for value, said in found if incomplete in value]
        return []

    return complete


complete_definitions = _live("definitions")
complete_labels = _live("labels")
complete_methods = _live("methods")
complete_participants = _live("participants")
complete_sagas = _live("sagas")
