"""Steps that participants declare, for definitions to use."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE saga.declared_steps (
        participant text NOT NULL,
        name text NOT NULL,
        version text NOT NULL,
        spec jsonb NOT NULL,
        declared_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT declared_steps_pkey PRIMARY KEY (participant, name)
    )
    """)
