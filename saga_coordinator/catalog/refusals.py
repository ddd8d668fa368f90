"""The errors that say why a definition is missing, or why no saga starts with it."""

from __future__ import annotations

from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.definitions import DefinitionRows


def not_found(name: str, version: int) -> NotFound:
    """The error that there is no such definition, or no such version of it. Version 0 stands for any."""
    asked = f"version {version} of definition" if version else "definition"
    return NotFound(
        Reason.NO_SUCH_DEFINITION,
        f"there is no {asked} `{name}`; register it first (saga-coordinator definition apply FILE)",
        definition=name,
    )


async def nothing_to_start(
    rows: DefinitionRows, namespace: Namespace, name: str, version: int
) -> NotFound | NotPossibleNow:
    """The error that there is no such version, or for 0 none that a saga could start with."""
    if not version and await rows.live(namespace, name) is not None:
        return NotPossibleNow(
            Reason.DEFINITION_DEPRECATED,
            f"every version of definition `{name}` is deprecated, so no saga starts with it; register a new one, or take one "
            "back",
            definition=name,
        )
    return not_found(name, version)


async def deprecated(rows: DefinitionRows, namespace: Namespace, name: str, version: int) -> NotPossibleNow:
    """The error that the version is deprecated; the message names the version to use."""
    startable = await rows.startable(namespace, name)
    instead = "register a new one" if startable is None else f"use version {startable.version}"
    return NotPossibleNow(
        Reason.DEFINITION_DEPRECATED,
        f"version {version} of definition `{name}` is deprecated, so no saga starts with it; {instead}",
        definition=name,
        version=str(version),
    )
