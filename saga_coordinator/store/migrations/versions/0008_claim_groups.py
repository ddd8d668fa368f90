"""The claim group that a saga belongs to, and that of each coordinator."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    "ALTER TABLE saga.sagas ADD COLUMN claim_group text NOT NULL DEFAULT 'default'",
    "ALTER TABLE saga.coordinators ADD COLUMN claim_group text NOT NULL DEFAULT 'default'",
    # Beside sagas_unowned_due, by which the previous version claims.
    """
    CREATE INDEX sagas_of_group_due ON saga.sagas (claim_group, wake_at)
        WHERE owner IS NULL AND wake_at IS NOT NULL
    """,
    "CREATE INDEX requests_unanswered ON saga.requests (requested_at) WHERE answer IS NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
