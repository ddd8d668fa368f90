"""Which workers are connected to which coordinator."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE saga.workers (
        coordinator_id uuid NOT NULL,
        participant text NOT NULL,
        methods text[] NOT NULL,
        published_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT workers_pkey PRIMARY KEY (coordinator_id, participant)
    )
    """)
