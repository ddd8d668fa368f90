"""Finds sagas by when they were turned back. Building the index reads `sagas` once, and what writes to it waits meanwhile."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute(
        """
        CREATE INDEX sagas_turned_back ON saga.sagas (namespace, ended_at)
            WHERE ended_at IS NOT NULL AND status <> 'COMPLETED'
        """
    )
