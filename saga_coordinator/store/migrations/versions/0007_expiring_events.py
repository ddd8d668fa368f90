"""An end for events that nobody waits for: until when each is kept."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # Those there are were promised seven days from their publication.
    op.execute("ALTER TABLE saga.events ADD COLUMN expires_at timestamptz")
    op.execute("UPDATE saga.events SET expires_at = published_at + interval '7 days'")
    op.execute("""
    ALTER TABLE saga.events ALTER COLUMN expires_at SET NOT NULL,
        ALTER COLUMN expires_at SET DEFAULT now() + interval '7 days'
    """)
