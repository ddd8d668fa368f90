"""Checks that the definitions that a definition runs as children exist and can be started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from saga_coordinator.saga.definition.named_in import ChildNamed
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.store.definitions import DefinitionRows


async def child_faults(
    rows: DefinitionRows, namespace: Namespace, children: Sequence[ChildNamed], along: Collection[str]
) -> list[Fault]:
    """The faults that keep the children from being started. `along` are this definition and those registered with it.

    Raises Unavailable when the database is away.
    """
    asked = [child for child in children if child.definition not in along]
    if not asked:
        return []
    startable = await rows.versions_of(namespace, {child.definition for child in asked})
    faults = []
    for child in asked:
        versions = startable.get(child.definition)
        if versions is None:
            faults.append(await _no_such_definition(rows, namespace, child))
        elif (fault := _fault(child, versions)) is not None:
            faults.append(fault)
    return faults


def _fault(child: ChildNamed, versions: dict[int, bool]) -> Fault | None:
    if child.version and child.version not in versions:
        known = ", ".join(map(str, sorted(versions)[-20:]))
        return Fault(
            f"{child.path}.version", f"`{child.definition}` has no version {child.version}; it has: {known}"
        )
    if versions[child.version] if child.version else any(versions.values()):
        return None
    which = f"version {child.version}" if child.version else "every version"
    return Fault(
        f"{child.path}.{'version' if child.version else 'definition'}",
        f"{which} of `{child.definition}` is deprecated, so no saga starts with it; name another version, or take the "
        "deprecation back",
    )


async def _no_such_definition(rows: DefinitionRows, namespace: Namespace, child: ChildNamed) -> Fault:
    meant = did_you_mean(child.definition, await rows.names_near(namespace, child.definition))
    return Fault(
        f"{child.path}.definition",
        f"there is no definition `{child.definition}`{meant or '; register it first, or apply both files together'}",
    )
