"""Participants that were put into the directory by the API, and what operators have decided about breakers."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    """
    CREATE TABLE saga.participants (
        name text NOT NULL,
        spec jsonb NOT NULL,
        descriptor_set bytea,
        revision uuid NOT NULL DEFAULT gen_random_uuid(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT participants_pkey PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE saga.breakers (
        participant text NOT NULL,
        control text NOT NULL,
        requested_by text NOT NULL,
        reason text NOT NULL,
        set_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT breakers_pkey PRIMARY KEY (participant),
        CONSTRAINT breakers_control_known CHECK (control IN ('AUTOMATIC', 'OPEN', 'CLOSED'))
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
