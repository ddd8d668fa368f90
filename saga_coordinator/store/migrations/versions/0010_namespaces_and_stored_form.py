"""The namespace of every row; entries and payloads as canonical bytes. No earlier coordinator can go on (decision 0036)."""

from alembic import op
from sqlalchemy import text

from saga_coordinator.store.schema import SchemaInUse

revision = "0010"
down_revision = "0009"

# Nothing here rewrites a table that grows: new columns have constant defaults or none, and new constraints are for new rows.
_STATEMENTS = (
    # A program of before names no revision, so none can renew a lease any more, not even one that was frozen meanwhile.
    "ALTER TABLE saga.coordinators ADD COLUMN schema_revision text NOT NULL DEFAULT ''",
    "ALTER TABLE saga.coordinators ALTER COLUMN schema_revision DROP DEFAULT",
    "COMMENT ON TABLE saga.schema_version IS 'oldest program: 0010'",
    """
    ALTER TABLE saga.sagas
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        ADD COLUMN cause bytea,
        ADD COLUMN key_id uuid,
        ADD CONSTRAINT sagas_failure_has_one_form CHECK (failure IS NULL OR cause IS NULL) NOT VALID
    """,
    # By which programs claimed that knew no groups: sagas_of_group_due is beside it.
    "DROP INDEX saga.sagas_unowned_due",
    "CREATE INDEX sagas_in_namespace ON saga.sagas (namespace, saga_id)",
    "DROP INDEX saga.sagas_by_status",
    "CREATE INDEX sagas_by_status ON saga.sagas (namespace, status, saga_id) WHERE status <> 'COMPLETED'",
    "DROP INDEX saga.sagas_by_definition",
    "CREATE INDEX sagas_by_definition ON saga.sagas (namespace, definition, saga_id)",
    """
    ALTER TABLE saga.log
        ALTER COLUMN body DROP NOT NULL,
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        ADD COLUMN facts bytea,
        ADD COLUMN payload bytea,
        ADD COLUMN key_id uuid,
        ADD COLUMN event text,
        ADD COLUMN correlation text,
        ADD COLUMN event_id text,
        ADD CONSTRAINT log_has_one_form CHECK ((body IS NULL) <> (facts IS NULL)) NOT VALID
    """,
    # Beside log_waits, which has the waits that were written before.
    """
    CREATE INDEX log_awaited ON saga.log (namespace, event, correlation)
        WHERE type = 'wait_started' AND correlation IS NOT NULL
    """,
    """
    ALTER TABLE saga.events
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        ADD COLUMN content bytea,
        ADD COLUMN key_id uuid,
        ADD CONSTRAINT events_payload_has_one_form CHECK (payload IS NULL OR content IS NULL) NOT VALID,
        DROP CONSTRAINT events_pkey,
        ADD CONSTRAINT events_pkey PRIMARY KEY (namespace, event_id)
    """,
    "DROP INDEX saga.events_by_correlation",
    "CREATE INDEX events_by_correlation ON saga.events (namespace, name, correlation, published_at)",
    "CREATE INDEX events_in_namespace ON saga.events (namespace, published_at, event_id)",
    "DROP INDEX saga.events_untaken",
    """
    CREATE INDEX events_untaken ON saga.events (namespace, published_at, event_id) WHERE taken_at IS NULL
    """,
    # Letters live for an hour at most, so these few are rewritten.
    """
    ALTER TABLE saga.requests
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        ADD COLUMN key_id uuid,
        ALTER COLUMN input TYPE bytea USING convert_to(input::text, 'UTF8'),
        ALTER COLUMN answer TYPE bytea USING convert_to(answer::text, 'UTF8')
    """,
    """
    ALTER TABLE saga.workers
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        DROP CONSTRAINT workers_pkey,
        ADD CONSTRAINT workers_pkey PRIMARY KEY (coordinator_id, namespace, participant)
    """,
    """
    ALTER TABLE saga.participants
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        DROP CONSTRAINT participants_pkey,
        ADD CONSTRAINT participants_pkey PRIMARY KEY (namespace, name)
    """,
    """
    ALTER TABLE saga.declared_steps
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        DROP CONSTRAINT declared_steps_pkey,
        ADD CONSTRAINT declared_steps_pkey PRIMARY KEY (namespace, participant, name)
    """,
    """
    ALTER TABLE saga.breakers
        ADD COLUMN namespace text NOT NULL DEFAULT 'default',
        DROP CONSTRAINT breakers_pkey,
        ADD CONSTRAINT breakers_pkey PRIMARY KEY (namespace, participant)
    """,
)
_ALIVE = text("""
SELECT coordinator_id::text, address, version FROM saga.coordinators WHERE lease_until >= clock_timestamp() ORDER BY started_at
""")


def upgrade() -> None:
    # Whoever takes a lease waits for this, and then cannot take it.
    op.execute("LOCK TABLE saga.coordinators IN ACCESS EXCLUSIVE MODE")
    alive = op.get_bind().execute(_ALIVE).all()
    if alive:
        raise SchemaInUse(
            revision, [f"{row.coordinator_id} at {row.address} ({row.version})" for row in alive]
        )
    for statement in _STATEMENTS:
        op.execute(statement)
