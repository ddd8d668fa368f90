"""Whether the definitions that a definition runs as children are there to be started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from saga_coordinator.saga.definition.named_in import ChildNamed
from saga_coordinator.saga.words.errors import Fault
from saga_coordinator.saga.words.nearest import did_you_mean
from saga_coordinator.store.tables import NAMESPACE

_VERSIONS = text("""
SELECT name, version, deprecated FROM saga.definitions
WHERE namespace = :namespace AND deleted_at IS NULL AND name = ANY(CAST(:names AS text[]))
""")
# Those that may be a near miss first: no more than these few are compared.
_NEAR = text("""
SELECT name FROM saga.definitions WHERE namespace = :namespace AND deleted_at IS NULL
    AND abs(length(name) - length(:name)) <= 5
GROUP BY name ORDER BY left(name, 2) = left(:name, 2) DESC, name LIMIT 200
""")


async def child_faults(
    connection: AsyncConnection, children: Sequence[ChildNamed], along: Collection[str]
) -> list[Fault]:
    """What keeps the children from being started. `along` are definitions that are registered with this one, and itself."""
    asked = [child for child in children if child.definition not in along]
    if not asked:
        return []
    names = {"namespace": NAMESPACE, "names": sorted({child.definition for child in asked})}
    usable: dict[str, dict[int, bool]] = {}
    for row in await connection.execute(_VERSIONS, names):
        usable.setdefault(row.name, {})[row.version] = not row.deprecated
    faults: list[Fault] = []
    for child in asked:
        versions = usable.get(child.definition)
        if versions is None:
            faults.append(await _no_such_definition(connection, child))
        elif child.version and child.version not in versions:
            known = ", ".join(map(str, sorted(versions)[-20:]))
            faults.append(
                Fault(
                    f"{child.path}.version",
                    f"`{child.definition}` has no version {child.version}; it has: {known}",
                )
            )
        elif not (versions[child.version] if child.version else any(versions.values())):
            which = f"version {child.version}" if child.version else "every version"
            faults.append(
                Fault(
                    f"{child.path}.{'version' if child.version else 'definition'}",
                    f"{which} of `{child.definition}` is deprecated, so no saga starts with it; name another, or take that back",
                )
            )
    return faults


async def _no_such_definition(connection: AsyncConnection, child: ChildNamed) -> Fault:
    near = await connection.execute(_NEAR, {"namespace": NAMESPACE, "name": child.definition})
    meant = did_you_mean(child.definition, [row.name for row in near])
    return Fault(
        f"{child.path}.definition",
        f"there is no definition `{child.definition}`{meant or '; register it first, or apply both files together'}",
    )
