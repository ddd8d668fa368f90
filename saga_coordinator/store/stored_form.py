"""Expressions that read stored entries and payloads: rows of 0.1.0 have Postgres's JSON, later rows have canonical bytes.

Every reader of a log gives these expressions the name of its table, so no other code knows that there are two forms.
"""

from sqlalchemy import Text, cast, func

from saga_coordinator.saga.machine.rows import ITEM_COUNT, PAYLOADS
from saga_coordinator.store.tables import events

LARGE_BYTES = 16 * 1024
"""Payloads that are larger are read only where they are shown."""

FACTS = "CASE WHEN log.facts IS NULL THEN '{}' ELSE log.facts END"
"""What the coordinator itself says in the entry; of 0.1.0 nothing, since it made no difference."""

WHOLE_PAYLOAD = "CASE WHEN log.facts IS NULL THEN convert_to(log.body::text, 'UTF8') ELSE log.payload END"
"""Everything else; of 0.1.0 the whole body."""

SIZE_BYTES = (
    "CASE WHEN log.facts IS NULL THEN octet_length(log.body::text)"
    " ELSE octet_length(log.facts) + coalesce(octet_length(log.payload), 0) END"
)

PAYLOAD_BYTES = "CASE WHEN log.facts IS NULL THEN octet_length(log.body::text) ELSE coalesce(octet_length(log.payload), 0) END"

_NAMES = ", ".join(f"'{name}'" for name in PAYLOADS)

FACTS_ALONE = f"""CASE WHEN log.facts IS NOT NULL THEN log.facts ELSE convert_to((
    (log.body - ARRAY[{_NAMES}]) || CASE WHEN log.body ? 'items'
        THEN jsonb_build_object('{ITEM_COUNT}', jsonb_array_length(log.body -> 'items')) ELSE '{{}}' END
)::text, 'UTF8') END"""
"""What the coordinator itself says, for whoever does not read the payload."""

EVENT_CONTENT = func.coalesce(events.c.content, func.convert_to(cast(events.c.payload, Text), "UTF8"))
"""An event's payload as JSON; null where it has none."""

EVENT_BYTES = func.coalesce(
    func.octet_length(events.c.content), func.octet_length(cast(events.c.payload, Text)), 0
)
