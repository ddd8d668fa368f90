"""What people decide about the versions of a definition: whether one is deprecated, the default, or deleted."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE saga.definitions
        ADD COLUMN deprecated boolean NOT NULL DEFAULT false,
        ADD COLUMN default_since timestamptz,
        ADD COLUMN deleted_at timestamptz,
        ADD CONSTRAINT definitions_default_can_be_started CHECK (
            default_since IS NULL OR (NOT deprecated AND deleted_at IS NULL))
    """)
