"""A way to the events that nobody took."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("CREATE INDEX events_untaken ON saga.events (published_at, event_id) WHERE taken_at IS NULL")
