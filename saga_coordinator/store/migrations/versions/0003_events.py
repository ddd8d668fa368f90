"""Events that sagas wait for."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    """
    CREATE TABLE saga.events (
        event_id text NOT NULL,
        name text NOT NULL,
        correlation text NOT NULL,
        payload jsonb,
        published_at timestamptz NOT NULL DEFAULT now(),
        taken_at timestamptz,
        taken_by uuid,
        CONSTRAINT events_pkey PRIMARY KEY (event_id),
        CONSTRAINT events_taken_some_time CHECK (taken_by IS NULL OR taken_at IS NOT NULL)
    )
    """,
    "CREATE INDEX events_by_correlation ON saga.events (name, correlation, published_at)",
    "CREATE INDEX events_by_age ON saga.events (published_at)",
    # Who waits for an event is written nowhere but in the log, in the same transaction as everything else.
    """
    CREATE INDEX log_waits ON saga.log ((body ->> 'event'), (body ->> 'correlation'))
        WHERE type = 'wait_started' AND (body ->> 'correlation') IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
